#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_norm_rows(OpRows& rows) {
  rows["softmax"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::softmax(b, in("x"), a.at("dim").template get<int64_t>())};
  };
  rows["log_softmax"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::log_softmax(b, in("x"), a.at("dim").template get<int64_t>())};
  };
  rows["layer_norm"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{
        ops::layer_norm(b, in("x"), in("weight"), in("bias"), a.at("eps").template get<double>())};
  };
  rows["rms_norm"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::rms_norm(b, in("x"), in("weight"), a.at("eps").template get<double>())};
  };
}

}  // namespace graft::testing
