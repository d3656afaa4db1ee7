// The loss of a language model's head.
#include <algorithm>

#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

std::vector<KernelCase> head_cases(int64_t n, int64_t features, int64_t classes, bool backward) {
  std::vector<KernelCase> cases;
  struct Variant {
    const char* name;
    HeadLossAttrs a;
    bool bias;
  };
  Tensor target = ints({n}, 0, classes, 4);
  // One row is ignored, one has no class that there is.
  if (n > 2) target.data<int64_t>()[1] = -100;
  if (n > 3) target.data<int64_t>()[3] = int64_t{1} << 40;
  for (const Variant& v : {Variant{"mean", {}, false},
                           {"bias", {.reduction = "sum"}, true},
                           {"each row", {.reduction = "none", .label_smoothing = 0.1}, true},
                           {"scaled", {.reduction = "sum", .scale = 0.3}, false},
                           {"capped", {.scale = 2, .softcap = 1.5}, true}}) {
    std::vector<Tensor> in = {floats({n, features}), floats({classes, features}, 2), target};
    if (backward) {
      KernelCase forward{v.name, Attrs::of(v.a), in, {}};
      forward.inputs.push_back(v.bias ? floats({classes}, 3) : Tensor());
      const Tensor statistics = run_kernel(Backend::ref, "linear_cross_entropy", forward)[1];
      in.insert(in.begin(), floats(v.a.reduction == "none" ? Shape{n} : Shape{}, 5));
      in.push_back(statistics.cast(DType::f32));
    }
    in.push_back(v.bias ? floats({classes}, 3) : Tensor());
    HeadLossAttrs a = v.a;
    a.need_dbias = v.bias;
    // A logit is a sum of products of numbers below 1; its rounding is the relative rounding of a
    // probability. All probabilities of a row are 1 together; rows add up, unless they are
    // averaged.
    const auto f = static_cast<double>(features);
    const double logit = 8 + a.scale * f * (f + 4);
    const bool sums = a.reduction == "sum" || (a.reduction == "none" && backward);
    const double terms = sums ? static_cast<double>(n + 2) : 2;
    cases.push_back({v.name, Attrs::of(a), in, {.result = 2, .floor = 0x1p-23 * logit * terms}});
  }
  return cases;
}

KernelRow head_row(bool backward) {
  return {.of_length =
              [backward](int64_t n) {
                std::vector<KernelCase> cases;
                for (const auto& [name, rows, features, classes] :
                     {std::tuple{"rows", n, int64_t{5}, int64_t{6}},
                      {"features", 4, n, 6},
                      {"classes", 4, 5, n}}) {
                  for (KernelCase& c : head_cases(rows, features, classes, backward)) {
                    c.name += std::string(", ") + name;
                    cases.push_back(std::move(c));
                  }
                }
                return cases;
              },
          // Two groups of rows, several chunks of classes.
          .special =
              [backward] {
                std::vector<KernelCase> cases;
                for (KernelCase& c : head_cases(1030, 3, 4'100, backward)) {
                  if (c.name == "each row" || c.name == "capped") cases.push_back(std::move(c));
                }
                return cases;
              },
          .wide = 301};
}

}  // namespace

KernelRows head_loss_kernel_rows() {
  return {{"linear_cross_entropy", head_row(false)},
          {"linear_cross_entropy_backward", head_row(true)}};
}

}  // namespace graft::testing
