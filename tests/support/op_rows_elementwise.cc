#include <cmath>

#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_elementwise_rows(OpRows& rows) {
  using Unary = Value (*)(Builder&, Value);
  using Binary = Value (*)(Builder&, Value, Value);
  const std::pair<const char*, Unary> unary[] = {{"exp", ops::exp},
                                                 {"log", ops::log},
                                                 {"sqrt", ops::sqrt},
                                                 {"tanh", ops::tanh},
                                                 {"relu", ops::relu},
                                                 {"sigmoid", ops::sigmoid},
                                                 {"gelu_erf", ops::gelu_erf},
                                                 {"gelu_tanh", ops::gelu_tanh},
                                                 {"silu", ops::silu},
                                                 {"softplus", ops::softplus},
                                                 {"neg", ops::neg},
                                                 {"abs", ops::abs},
                                                 {"rsqrt", ops::rsqrt},
                                                 {"sin", ops::sin},
                                                 {"cos", ops::cos}};
  for (const auto& row : unary) {
    rows[row.first].build = [f = row.second](Builder& b, const auto&, const auto& in) {
      return std::vector{f(b, in("x"))};
    };
  }
  const std::pair<const char*, Binary> binary[] = {
      {"add", ops::add}, {"sub", ops::sub}, {"mul", ops::mul}, {"div", ops::div}};
  for (const auto& row : binary) {
    rows[row.first].build = [f = row.second](Builder& b, const auto&, const auto& in) {
      return std::vector{f(b, in("x"), in("y"))};
    };
  }
  rows["pow"].build = [](Builder& b, const auto& a, const auto& in) {
    const Value y = in("y");
    return std::vector{y.valid()
                           ? ops::pow(b, in("x"), y)
                           : ops::pow_scalar(b, in("x"), a.at("exponent").template get<double>())};
  };
  rows["clamp"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::clamp(b, in("x"), a.at("min").template get<double>(),
                                  a.at("max").template get<double>())};
  };
  rows["where"].build = [](Builder& b, const auto&, const auto& in) {
    return std::vector{ops::where(b, in("cond"), in("x"), in("y"))};
  };
  rows["masked_fill"].build = [](Builder& b, const auto& a, const auto& in) {
    const auto& v = a.at("value");
    const double value =
        v.is_string() ? (v == "-inf" ? -INFINITY : INFINITY) : v.template get<double>();
    return std::vector{ops::masked_fill(b, in("x"), in("mask"), value)};
  };
}

OpRows all_op_rows() {
  OpRows rows;
  add_elementwise_rows(rows);
  add_reduce_rows(rows);
  add_shape_rows(rows);
  add_index_rows(rows);
  add_matmul_rows(rows);
  add_norm_rows(rows);
  add_loss_rows(rows);
  add_attention_rows(rows);
  return rows;
}

}  // namespace graft::testing
