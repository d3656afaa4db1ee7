#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_shape_rows(OpRows& rows) {
  using Ints = std::vector<int64_t>;
  rows["concat"].build = [](Builder& b, const auto& a, const auto& in) {
    std::vector<Value> xs;
    for (int i = 0; in("x" + std::to_string(i)).valid(); ++i)
      xs.push_back(in("x" + std::to_string(i)));
    return std::vector{ops::concat(b, xs, a.at("dim").template get<int64_t>())};
  };
  rows["split"].build = [](Builder& b, const auto& a, const auto& in) {
    return ops::split(b, in("x"), a.at("sizes").template get<Ints>(),
                      a.at("dim").template get<int64_t>());
  };
  rows["slice"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::slice(
        b, in("x"), a.at("dim").template get<int64_t>(), a.at("start").template get<int64_t>(),
        a.at("stop").template get<int64_t>(), a.at("step").template get<int64_t>())};
  };
  rows["pad"].build = [](Builder& b, const auto& a, const auto& in) {
    Ints before, after;
    for (const auto& pair : a.at("pads")) {
      before.push_back(pair[0].template get<int64_t>());
      after.push_back(pair[1].template get<int64_t>());
    }
    return std::vector{ops::pad(b, in("x"), before, after, a.at("value").template get<double>())};
  };
  rows["transpose"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::transpose(b, in("x"), a.at("perm").template get<Ints>())};
  };
  rows["reshape"].build = [](Builder& b, const auto& a, const auto& in) {
    Value x = in("x");
    if (a.contains("perm")) x = ops::transpose(b, x, a.at("perm").template get<Ints>());
    Ints dims = a.at("shape").template get<Ints>();
    int64_t known = 1;
    for (int64_t d : dims) known *= d < 0 ? 1 : d;
    for (int64_t& d : dims) d = d < 0 ? b.shape(x).elements() / known : d;
    return std::vector{ops::reshape(b, x, Shape(dims))};
  };
  rows["expand"].build = [](Builder& b, const auto& a, const auto& in) {
    return std::vector{ops::expand(b, in("x"), Shape(a.at("shape").template get<Ints>()))};
  };
}

}  // namespace graft::testing
