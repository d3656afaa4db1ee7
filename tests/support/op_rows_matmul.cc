#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_matmul_rows(OpRows& rows) {
  rows["matmul"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::matmul(b, in("x"), in("y"), a.at("tx").template get<bool>(),
                                   a.at("ty").template get<bool>())};
  };
  rows["linear"].build = [](Builder& b, const auto&, const auto& in) {
    return std::vector{ops::linear(b, in("x"), in("w"), in("bias"))};
  };
}

}  // namespace graft::testing
