#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_loss_rows(OpRows& rows) {
  rows["cross_entropy"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::cross_entropy(b, in("x"), in("target"),
                                          a.at("reduction").template get<std::string>(),
                                          a.at("ignore_index").template get<int64_t>(),
                                          a.at("label_smoothing").template get<double>())};
  };
  rows["mse"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{
        ops::mse(b, in("x"), in("y"), a.at("reduction").template get<std::string>())};
  };
  rows["bce_with_logits"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::bce_with_logits(b, in("x"), in("y"), in("pos_weight"),
                                            a.at("reduction").template get<std::string>())};
  };
}

}  // namespace graft::testing
