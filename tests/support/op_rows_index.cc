#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_index_rows(OpRows& rows) {
  rows["embedding"].build = [](Builder& b, const auto& a, const auto& in) {
    const auto& padding = a.at("padding_idx");
    return std::vector{ops::embedding(b, in("ids"), in("weight"),
                                      padding.is_null() ? -1 : padding.template get<int64_t>())};
  };
  rows["gather"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::gather(b, in("x"), in("index"), a.at("dim").template get<int64_t>())};
  };
  rows["scatter"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{
        ops::scatter(b, in("x"), in("index"), in("src"), a.at("dim").template get<int64_t>())};
  };
  rows["scatter_add"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{
        ops::scatter_add(b, in("x"), in("index"), in("src"), a.at("dim").template get<int64_t>())};
  };
  rows["index_select"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{
        ops::index_select(b, in("x"), in("index"), a.at("dim").template get<int64_t>())};
  };
}

}  // namespace graft::testing
