#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_reduce_rows(OpRows& rows) {
  using Axes = std::vector<int64_t>;
  rows["sum"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::sum(b, in("x"), a.at("axes").template get<Axes>(),
                                a.at("keepdim").template get<bool>())};
  };
  rows["mean"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::mean(b, in("x"), a.at("axes").template get<Axes>(),
                                 a.at("keepdim").template get<bool>())};
  };
  rows["max"].build = [](Builder& b, const auto& a, const auto& in) {
    const auto [values, index] = ops::max(b, in("x"), a.at("axes").template get<Axes>()[0],
                                          a.at("keepdim").template get<bool>());
    return std::vector{values, index};
  };
  rows["cumsum"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::cumsum(b, in("x"), a.at("dim").template get<int64_t>())};
  };
}

}  // namespace graft::testing
