#include <cmath>
#include <limits>

#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kMost = std::numeric_limits<float>::max();
constexpr float kLeast = std::numeric_limits<float>::min();
constexpr float kDenormal = std::numeric_limits<float>::denorm_min();

const Attrs kNone = Attrs::of(NoAttrs{});

// Where functions change their formula or overflow, and what float can hold at all.
std::vector<float> special_values(bool infinities) {
  std::vector<float> v = {0.0f,   -0.0f,   kNan,   kDenormal, -kDenormal, kLeast, -kLeast,
                          1e-20f, -1e-20f, 1e-5f,  -1e-5f,    0.5f,       -0.5f,  1.0f,
                          -1.0f,  2.0f,    -2.0f,  5.0f,      -5.0f,      9.0f,   -9.0f,
                          13.5f,  -13.5f,  20.0f,  -20.0f,    20.5f,      87.5f,  -87.5f,
                          88.7f,  88.8f,   -88.8f, -103.0f,   -104.5f,    1e4f,   -1e4f,
                          1e10f,  -1e10f,  1e20f,  -1e20f,    kMost,      -kMost};
  if (infinities) v.insert(v.end(), {kInf, -kInf});
  return v;
}

struct Unary {
  const char* op;
  Tolerance tolerance;
  double low = -4, high = 4;  // where random operands lie
  bool infinities = true;     // whether the op has a value there that both sides define
  bool special = true;
  Attrs attrs = kNone;
};

KernelRow row_of(const Unary& u) {
  return {
      .of_length =
          [u](int64_t n) {
            return std::vector<KernelCase>{
                {"vector", u.attrs, {floats({n}, 1, u.low, u.high)}, u.tolerance}};
          },
      .special =
          [u] {
            std::vector<KernelCase> cases;
            if (!u.special) return cases;
            return std::vector<KernelCase>{
                {"special values", u.attrs, {values(special_values(u.infinities))}, u.tolerance},
                {"scalar", u.attrs, {floats({}, 3, u.low, u.high)}, u.tolerance}};
          }};
}

struct Binary {
  const char* op;
  Tolerance tolerance;
  double low = -4, high = 4;
  bool broadcasts = true;
  bool infinities = true;
  double least = -std::numeric_limits<double>::infinity();  // of the second operand, where special
  Attrs attrs = kNone;
};

KernelRow row_of(const Binary& b) {
  return {
      .of_length =
          [b](int64_t n) {
            const auto operands = [&](const Shape& x, const Shape& y) {
              return std::vector{floats(x, 1, b.low, b.high), floats(y, 2, b.low, b.high)};
            };
            std::vector<KernelCase> cases = {
                {"same shapes", b.attrs, operands({n}, {n}), b.tolerance}};
            if (!b.broadcasts) return cases;
            const std::pair<Shape, Shape> shapes[] = {
                {{n}, {}},          {{}, {n}},        {{3, n}, {n}},          {{n}, {3, n}},
                {{3, n}, {3, 1}},   {{3, 1}, {1, n}}, {{2, 3, n}, {2, 1, n}}, {{2, n, 3}, {n, 1}},
                {{2, 1, n}, {3, 1}}};
            for (const auto& [x, y] : shapes)
              cases.push_back({x.str() + y.str(), b.attrs, operands(x, y), b.tolerance});
            return cases;
          },
      .special =
          [b] {
            std::vector<float> x, y;
            for (float v : special_values(b.infinities)) {
              for (float w : special_values(b.infinities)) {
                if (static_cast<double>(w) < b.least) continue;
                x.push_back(v);
                y.push_back(w);
              }
            }
            return std::vector<KernelCase>{
                {"special values", b.attrs, {values(x), values(y)}, b.tolerance}};
          }};
}

// dy is moderate (an overflow of dy * slope says nothing about the slope), x is special.
KernelRow backward_row(const Binary& b) {
  KernelRow row = row_of(b);
  row.special = [b] {
    const std::vector<float> x = special_values(b.infinities);
    return std::vector<KernelCase>{{"special values",
                                    b.attrs,
                                    {floats({static_cast<int64_t>(x.size())}, 5), values(x)},
                                    b.tolerance}};
  };
  return row;
}

KernelRow cast_row() {
  return {.of_length =
              [](int64_t n) {
                std::vector<KernelCase> cases;
                for (const DType from : {DType::f32, DType::bf16, DType::f16, DType::i32,
                                         DType::i64, DType::u8, DType::boolean}) {
                  for (const DType to : {DType::f32, DType::bf16, DType::f16, DType::i32,
                                         DType::i64, DType::u8, DType::boolean}) {
                    if (from == to) continue;
                    Tensor x = is_float(from)
                                   ? floats({n}, 1, 0, 99).cast(from)
                                   : ints({n}, 0, from == DType::boolean ? 2 : 99, 2, from);
                    cases.push_back({std::string(name_of(from)) + " to " + std::string(name_of(to)),
                                     Attrs::of(CastAttrs{to}),
                                     {x},
                                     {.result = 0.5}});
                  }
                }
                return cases;
              },
          .special =
              [] {
                std::vector<KernelCase> cases;
                for (const DType to :
                     {DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8, DType::boolean}) {
                  cases.push_back({"special values to " + std::string(name_of(to)),
                                   Attrs::of(CastAttrs{to}),
                                   {values(special_values(true))},
                                   {}});
                }
                return cases;
              }};
}

KernelRow where_row() {
  return {.of_length =
              [](int64_t n) {
                const auto mask = [](const Shape& s) { return ints(s, 0, 2, 3, DType::boolean); };
                const Tensor a = floats({3, n}, 1), b = floats({3, n}, 2);
                return std::vector<KernelCase>{
                    {"same shapes", kNone, {mask({3, n}), a, b}, {}},
                    {"mask is a row", kNone, {mask({n}), a, b}, {}},
                    {"mask is a column", kNone, {mask({3, 1}), a, b}, {}},
                    {"integer mask", kNone, {ints({n}, -1, 2), a, b}, {}},
                    {"choices are narrow", kNone, {mask({3, n}), floats({n}), floats({})}, {}}};
              },
          .special =
              [] {
                const std::vector<float> x = special_values(true);
                const auto n = static_cast<int64_t>(x.size());
                return std::vector<KernelCase>{
                    {"special values", kNone, {ints({n}, 0, 2), values(x), floats({n})}, {}}};
              }};
}

KernelRow masked_fill_row() {
  return {.of_length = [](int64_t n) {
    const Attrs attrs = Attrs::of(ScalarAttrs{-INFINITY});
    return std::vector<KernelCase>{
        {"same shapes", attrs, {floats({3, n}), ints({3, n}, 0, 2, 4, DType::u8)}, {}},
        {"mask is a row", attrs, {floats({3, n}), ints({n}, 0, 2)}, {}},
        {"mask is a column", attrs, {floats({3, n}), ints({3, 1}, 0, 2)}, {}}};
  }};
}

KernelRow positive_bits_row() {
  return {.of_length =
              [](int64_t n) {
                return std::vector<KernelCase>{{"vector", kNone, {floats({n})}, {}},
                                               {"matrix", kNone, {floats({3, n})}, {}}};
              },
          .special =
              [] {
                return std::vector<KernelCase>{
                    {"special values", kNone, {values(special_values(true))}, {}},
                    {"scalar", kNone, {floats({})}, {}}};
              }};
}

KernelRow relu_backward_bits_row() {
  const auto bits = [](int64_t n) { return ints({(n + 7) / 8}, 0, 256, 2, DType::u8); };
  return {.of_length =
              [bits](int64_t n) {
                return std::vector<KernelCase>{
                    {"vector", kNone, {floats({n}), bits(n)}, {}},
                    {"matrix", kNone, {floats({3, n}), bits(3 * n)}, {}}};
              },
          .special =
              [bits] {
                const Tensor dy = values(special_values(true));
                return std::vector<KernelCase>{
                    {"special values", kNone, {dy, bits(dy.elements())}, {}}};
              }};
}

KernelRow dropout_row() {
  return {.of_length = [](int64_t n) {
    return std::vector<KernelCase>{{"a third",
                                    Attrs::of(DropoutAttrs{0.3, 7}),
                                    {floats({n}), int_values({5, 11})},
                                    {.result = 2}}};
  }};
}

KernelRow full_row() {
  return {.of_length = [](int64_t n) {
    return std::vector<KernelCase>{
        {"floats", Attrs::of(FullAttrs{0.1, DType::f32, {n}}), {}, {.result = 0.5}},
        {"integers", Attrs::of(FullAttrs{-3, DType::i64, {n}}), {}, {}},
        {"half floats", Attrs::of(FullAttrs{0.1, DType::bf16, {n}}), {}, {}},
        {"bytes", Attrs::of(FullAttrs{1, DType::boolean, {n}}), {}, {}}};
  }};
}

}  // namespace

KernelRows elementwise_kernel_rows() {
  const Tolerance exact = {.result = 0.5};
  // Highway's functions are within 4 ulp; what is built of them rounds a few times more.
  const Tolerance function = {.result = 6, .floor = kNoDenormals};
  // x times a probability: rounding of the probability near 1 counts against x. The exponent of a
  // normal tail has |x|^2 / 2 < 87 before it is exponentiated.
  const Tolerance gate = {.result = 60, .input = 4, .floor = kNoDenormals};
  const auto scalar = [](double v) { return Attrs::of(ScalarAttrs{v}); };
  KernelRows rows;
  for (const Unary& u : std::initializer_list<Unary>{
           {"neg", exact},
           {"exp", {.result = 4}},
           {"log", {.result = 4}, 0.01, 9},
           {"sqrt", exact, 0, 9},
           {"rsqrt", {.result = 1.5}, 0.01, 9},
           {"abs", exact},
           {"sign", exact},
           {"sin", {.result = 2}},
           {"cos", {.result = 2}},
           {"tanh", {.result = 6, .input = 1}},
           {"sigmoid", function},
           {"relu", exact},
           {"gelu_erf", gate, -4, 4, false},
           {"gelu_tanh", gate, -4, 4, false},
           {"silu", gate, -4, 4, false},
           {"softplus", function},
           {"scale", {.result = 1}, -4, 4, true, true, scalar(-0.7)},
           {"add_scalar", {.result = 0.5, .floor = 0x1p-24}, -4, 4, true, true, scalar(0.3)},
           {"pow_scalar", {.result = 2}, -4, 4, true, true, scalar(2)},
           {"clamp", exact, -4, 4, true, true, Attrs::of(ClampAttrs{-1.5, 2.5})},
       }) {
    rows[u.op] = row_of(u);
  }
  // The exponents with a path of their own, and one without.
  rows["pow_scalar"].of_length = [scalar](int64_t n) {
    std::vector<KernelCase> cases;
    for (const double e : {2.0, 3.0, -1.0, 0.5, 1.7, 0.0}) {
      cases.push_back({fmt::format("x^{}", e), scalar(e), {floats({n}, 1, 0.1, 4)}, {.result = 2}});
    }
    return cases;
  };
  for (const Binary& b : std::initializer_list<Binary>{
           {"add", exact},
           {"sub", exact},
           {"mul", exact},
           {"div", exact},
           {"pow", {.result = 2}, 0.1, 4},
       }) {
    rows[b.op] = row_of(b);
  }
  for (const Binary& b : std::initializer_list<Binary>{
           // From the output of the function, which lies in [-1, 1] or [0, 1].
           {"tanh_backward", {.result = 1, .input = 2}, -1, 1, false, false},
           {"sigmoid_backward", {.result = 2, .input = 2}, 0, 1, false, false},
           {"relu_backward", exact, -4, 4, false},
           {"gelu_erf_backward", gate, -4, 4, false, false},
           {"gelu_tanh_backward", gate, -4, 4, false, false},
           {"silu_backward", gate, -4, 4, false, false},
           {"softplus_backward", function, -4, 4, false},
           {"clamp_backward", exact, -4, 4, false, true, -INFINITY,
            Attrs::of(ClampAttrs{-1.5, 2.5})},
       }) {
    rows[b.op] = backward_row(b);
  }
  // Their operand is a function's value; beyond it only what is not a number matters.
  for (const char* op : {"tanh_backward", "sigmoid_backward"}) {
    rows[op].special = [] {
      return std::vector<KernelCase>{
          {"special values",
           kNone,
           {values({1, -2, 3, 1, 0.5f}), values({0, 1, kNan, kDenormal, 1})},
           {.result = 2, .input = 2}}};
    };
  }
  rows["where"] = where_row();
  rows["masked_fill"] = masked_fill_row();
  rows["cast"] = cast_row();
  rows["positive_bits"] = positive_bits_row();
  rows["relu_backward_bits"] = relu_backward_bits_row();
  rows["dropout"] = dropout_row();
  rows["full"] = full_row();
  return rows;
}

}  // namespace graft::testing
