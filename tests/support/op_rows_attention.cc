#include <cmath>

#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_attention_rows(OpRows& rows) {
  rows["attention"].build = [](Builder& b, const auto& a, const auto& in) {
    AttentionAttrs t;
    t.bthd = false;
    t.causal = a.at("causal").template get<bool>();
    if (!a.at("window").is_null()) t.window = a.at("window").template get<int64_t>();
    t.scale = a.at("scale").is_null() ? 1 / std::sqrt(static_cast<double>(b.shape(in("q"))[-1]))
                                      : a.at("scale").template get<double>();
    return std::vector{ops::attention(b, in("q"), in("k"), in("v"), in("bias"), in("keep"), t)};
  };
  rows["rope"].build = [](Builder& b, const auto& a, const auto& in) {
    RopeAttrs t;
    t.bthd = false;
    t.inv_freq = a.at("inv_freq").template get<std::vector<double>>();
    return std::vector{ops::rope(b, in("x"), in("positions"), t)};
  };
  rows["t5_bucket"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::t5_bucket(
        b, in("rel"),
        {a.at("bidirectional").template get<bool>(), a.at("num_buckets").template get<int64_t>(),
         a.at("max_distance").template get<int64_t>()})};
  };
}

}  // namespace graft::testing
