// Reductions, norms and losses.
#include <cmath>
#include <limits>

#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kMost = std::numeric_limits<float>::max();

// A sum of n terms in any order rounds n times, each time at most the sum of magnitudes so far.
Tolerance sum_of(int64_t n) { return {.result = 2, .terms = static_cast<double>(n) + 1}; }

KernelRow sum_row() {
  return {.of_length = [](int64_t n) {
    const auto over = [](std::vector<int64_t> axes) {
      return Attrs::of(ReduceAttrs{std::move(axes), false});
    };
    return std::vector<KernelCase>{
        {"rows", over({1}), {floats({3, n})}, sum_of(n)},
        {"columns", over({0}), {floats({5, n})}, sum_of(5)},
        {"all", over({0}), {floats({n})}, sum_of(n)},
        {"a column of one", over({0}), {floats({n, 1})}, sum_of(n)},
        {"outer and inner", over({0, 2}), {floats({2, 3, n})}, sum_of(2 * n)},
        {"middle", over({1}), {floats({2, 5, n})}, sum_of(5)},
        {"outer and middle", over({0, 2}), {floats({2, 3, 2, n})}, sum_of(4)},
        {"nothing", Attrs::of(ReduceAttrs{{}, false}), {floats({2, n})}, sum_of(1)},
        {"scalar", Attrs::of(ReduceAttrs{{}, false}), {floats({})}, sum_of(1)},
        {"kept axis", Attrs::of(ReduceAttrs{{1}, true}), {floats({3, n})}, sum_of(n)}};
  }};
}

KernelRow max_row() {
  return {.of_length =
              [](int64_t n) {
                const auto over = [](int64_t axis) {
                  return Attrs::of(ReduceAttrs{{axis}, false});
                };
                return std::vector<KernelCase>{{"rows", over(1), {floats({3, n})}, {}},
                                               {"columns", over(0), {floats({n, 3})}, {}},
                                               {"middle", over(1), {floats({2, n, 3})}, {}}};
              },
          .special =
              [] {
                const Attrs rows = Attrs::of(ReduceAttrs{{0}, false});
                return std::vector<KernelCase>{
                    {"the first of equals", rows, {values({1, 3, 3, 2})}, {}},
                    {"zeros are equal", rows, {values({-0.0f, 0.0f})}, {}},
                    {"all hidden", rows, {values({-kInf, -kInf})}, {}},
                    {"NaN behind", rows, {values({1, kNan, 7})}, {}},
                    {"NaN in front", rows, {values({kNan, 1, kNan})}, {}}};
              },
          .shortest = 1};
}

KernelRow cumsum_row() {
  return {.of_length = [](int64_t n) {
    std::vector<KernelCase> cases;
    for (const bool reverse : {false, true}) {
      cases.push_back({"rows", Attrs::of(CumsumAttrs{1, reverse}), {floats({3, n})}, sum_of(0)});
      cases.push_back({"columns", Attrs::of(CumsumAttrs{0, reverse}), {floats({n, 3})}, sum_of(0)});
    }
    return cases;
  }};
}

KernelRow l2_norm_row() {
  return {.of_length = [](int64_t n) {
    const auto rounding = static_cast<double>(n) + 3;
    return std::vector<KernelCase>{
        {"one", Attrs::of(NoAttrs{}), {floats({n})}, {.result = rounding}},
        {"several",
         Attrs::of(NoAttrs{}),
         {floats({n}), floats({3, n}), floats({})},
         {.result = rounding}}};
  }};
}

// Rows whose entries are well apart, so that no variance is small by accident.
Tensor spread(const Shape& shape, uint64_t seed) {
  Tensor t = floats(shape, seed, -0.1, 0.1);
  for (int64_t i = 0; i < t.elements(); ++i)
    t.data<float>()[i] += static_cast<float>((i * 7 + 3) % 11 - 5) / 4;
  return t;
}

// Lines of n along the last, the first and the middle axis.
std::vector<std::pair<Shape, Attrs>> lines(int64_t n) {
  return {{{3, n}, Attrs::of(AxisAttrs{1})},
          {{n, 3}, Attrs::of(AxisAttrs{0})},
          {{2, n, 3}, Attrs::of(AxisAttrs{1})}};
}

KernelRow softmax_row(bool log) {
  const Tolerance t = {.result = 16, .largest = log ? 8.0 : 0, .floor = kNoDenormals};
  return {.of_length =
              [t](int64_t n) {
                std::vector<KernelCase> cases;
                for (const auto& [shape, attrs] : lines(n))
                  cases.push_back({shape.str(), attrs, {floats(shape, 1, -6, 6)}, t});
                return cases;
              },
          .special =
              [t] {
                std::vector<KernelCase> cases;
                const std::pair<const char*, std::vector<float>> rows[] = {
                    {"hidden entries", {-kInf, 1, -kInf, 2, 0.5f, -kInf}},
                    {"one visible entry", {-kInf, -kInf, 3}},
                    {"all hidden", {-kInf, -kInf, -kInf}},
                    {"lowest floats", {-kMost, -kMost, -kMost, -kMost}},
                    {"lowest float beside others", {-kMost, 1, 2}},
                    {"large", {1e30f, 1e30f, -1e30f}},
                    {"largest floats", {kMost, -kMost, 0}},
                    {"far below", {0, -80, -100, -104, -120, -1e4f}},
                    {"infinite", {kInf, 1, 2}},
                    {"NaN", {1, kNan, 2, 3}}};
                for (const auto& [name, row] : rows)
                  cases.push_back({name, Attrs::of(AxisAttrs{0}), {values(row)}, t});
                return cases;
              }};
}

KernelRow softmax_backward_row(bool log) {
  return {.of_length = [log](int64_t n) {
    // Operands are at most 1 and the probabilities at most 2 / n, so the sum and its rounding are
    // of the size of a few operands.
    const Tolerance t = {.floor = 8 * 0x1p-23};
    std::vector<KernelCase> cases;
    for (const auto& [shape, attrs] : lines(n)) {
      // y as forward makes it: probabilities of about 1 / n, or their logarithms.
      const double p = 1 / static_cast<double>(std::max<int64_t>(1, n));
      cases.push_back({shape.str(),
                       attrs,
                       {floats(shape, 1), log ? floats(shape, 2, std::log(p) - 1, std::log(p))
                                              : floats(shape, 2, 0, 2 * p)},
                       log ? Tolerance{.largest = static_cast<double>(n) + 16, .input = 8} : t});
    }
    return cases;
  }};
}

// Statistics round with the length of the row; what follows has a few operations.
Tolerance norm_tolerance(int64_t n) {
  return {.result = 8, .largest = 16, .input = 8 + static_cast<double>(n) / 8};
}

KernelRow norm_row(bool centered) {
  return {.of_length =
              [centered](int64_t n) {
                const Attrs a = Attrs::of(EpsAttrs{1e-5});
                const Tensor x = spread({4, n}, 1), w = floats({n}, 2), b = floats({n}, 3);
                const Tolerance t = norm_tolerance(n);
                std::vector<KernelCase> cases = {{"plain", a, {x}, t},
                                                 {"weight", a, {x, w}, t},
                                                 {"three axes", a, {spread({2, 3, n}, 4), w}, t}};
                if (centered) {
                  cases.push_back({"weight and bias", a, {x, w, b}, t});
                  cases.push_back({"bias", a, {x, Tensor(), b}, t});
                }
                return cases;
              },
          .special =
              [] {
                const Attrs a = Attrs::of(EpsAttrs{1e-12});
                return std::vector<KernelCase>{
                    {"constant row", a, {values({3, 3, 3, 3, 3, 3})}, norm_tolerance(6)},
                    {"zeros", a, {values({0, 0, 0})}, norm_tolerance(3)},
                    {"NaN", a, {values({1, kNan, 2})}, norm_tolerance(3)}};
              }};
}

KernelRow norm_dx_row() {
  return {.of_length = [](int64_t n) {
    const Attrs a = Attrs::of(EpsAttrs{1e-5});
    const Tensor dy = floats({4, n}, 1), x = spread({4, n}, 2);
    Tolerance t = norm_tolerance(n);
    // A row of one entry has no variance: 1 / sqrt(eps) multiplies the rounding of what cancels.
    t.input *= n == 1 ? 400 : 4;
    return std::vector<KernelCase>{{"plain", a, {dy, x}, t},
                                   {"weight", a, {dy, x, floats({n}, 3)}, t}};
  }};
}

KernelRow norm_dparams_row() {
  const auto of = [](int64_t rows, int64_t n) {
    Tolerance t = norm_tolerance(n);
    t.input += 4 * static_cast<double>(rows);
    return KernelCase{fmt::format("{} rows", rows),
                      Attrs::of(EpsAttrs{1e-5}),
                      {floats({rows, n}, 1), spread({rows, n}, 2)},
                      t};
  };
  return {.of_length =
              [of](int64_t n) {
                return std::vector{of(4, n), of(0, n)};
              },
          .special =
              [of] {
                return std::vector{of(700, 19), of(257, 3)};
              }};
}

Attrs loss(const char* reduction, double smoothing) {
  return Attrs::of(LossAttrs{reduction, -100, smoothing});
}

// Sums are in double: what rounds is the result.
KernelRow cross_entropy_row(bool backward) {
  const auto cases_of = [backward](const Shape& x, const Tensor& targets) {
    std::vector<KernelCase> cases;
    for (const char* reduction : {"none", "mean", "sum"}) {
      for (const double smoothing : {0.0, 0.1}) {
        const bool none = std::string_view(reduction) == "none";
        std::vector<Tensor> in = {floats(x, 1, -5, 5), targets};
        if (backward) in.insert(in.begin(), none ? floats({x[0]}, 3) : floats({}, 3));
        cases.push_back({reduction, loss(reduction, smoothing), in, {.result = 1, .input = 1e-6}});
      }
    }
    return cases;
  };
  return {.of_length =
              [cases_of](int64_t n) {
                std::vector<KernelCase> cases = cases_of({4, n}, ints({4}, 0, n));
                for (auto& c : cases_of({n, 3}, ints({n}, 0, 3))) cases.push_back(std::move(c));
                return cases;
              },
          .special =
              [cases_of] {
                std::vector<KernelCase> cases = cases_of({3, 5}, int_values({-100, -100, -100}));
                // Targets that are no class count as ignored.
                for (auto& c : cases_of({5, 3}, int_values({2, -1, 3, int64_t{1} << 62, 0})))
                  cases.push_back(std::move(c));
                return cases;
              }};
}

KernelRow bce_row(bool backward) {
  return {.of_length =
              [backward](int64_t n) {
                std::vector<KernelCase> cases;
                for (const bool weighted : {false, true}) {
                  std::vector<Tensor> in = {floats({2, n}, 1, -9, 9), floats({2, n}, 2, 0, 1)};
                  if (weighted) in.push_back(floats({n}, 3, 0.5, 4));
                  if (backward) in.insert(in.begin(), floats({2, n}, 4));
                  cases.push_back(
                      {weighted ? "weighted" : "plain", Attrs::of(NoAttrs{}), in, {.result = 1}});
                }
                return cases;
              },
          .special =
              [backward] {
                std::vector<Tensor> in = {values({0, 100, -100, 1000, -1000, kMost, -kMost, kNan}),
                                          values({0, 1, 0, 0, 1, 1, 0, 1})};
                if (backward) in.insert(in.begin(), floats({8}));
                return std::vector<KernelCase>{
                    {"far logits", Attrs::of(NoAttrs{}), in, {.result = 1, .floor = 0x1p-126}}};
              }};
}

}  // namespace

KernelRows reduce_kernel_rows() {
  return {{"sum", sum_row()},
          {"mean", sum_row()},
          {"max", max_row()},
          {"cumsum", cumsum_row()},
          {"l2_norm", l2_norm_row()}};
}

KernelRows norm_kernel_rows() {
  return {{"softmax", softmax_row(false)},
          {"log_softmax", softmax_row(true)},
          {"softmax_backward", softmax_backward_row(false)},
          {"log_softmax_backward", softmax_backward_row(true)},
          {"layer_norm", norm_row(true)},
          {"rms_norm", norm_row(false)},
          {"layer_norm_dx", norm_dx_row()},
          {"rms_norm_dx", norm_dx_row()},
          {"layer_norm_dparams", norm_dparams_row()},
          {"rms_norm_dparams", norm_dparams_row()}};
}

KernelRows loss_kernel_rows() {
  return {{"cross_entropy", cross_entropy_row(false)},
          {"cross_entropy_backward", cross_entropy_row(true)},
          {"bce", bce_row(false)},
          {"bce_backward", bce_row(true)}};
}

}  // namespace graft::testing
