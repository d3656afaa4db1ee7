// Products, attention and positions.
#include <cmath>
#include <limits>

#include "kernels/packed.h"
#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

Tolerance product_of(int64_t k) { return {.result = 1, .terms = static_cast<double>(k) + 2}; }

KernelRow matmul_row() {
  return {.of_length =
              [](int64_t n) {
                std::vector<KernelCase> cases;
                const auto add = [&](const char* name, const Shape& x, const Shape& y, int64_t k,
                                     bool tx, bool ty) {
                  cases.push_back({name,
                                   Attrs::of(MatmulAttrs{tx, ty}),
                                   {floats(x, 1), floats(y, 2)},
                                   product_of(k)});
                };
                for (const bool tx : {false, true}) {
                  for (const bool ty : {false, true}) {
                    const auto turned = [](bool t, int64_t a, int64_t b) {
                      return t ? Shape{b, a} : Shape{a, b};
                    };
                    add("wide", turned(tx, 5, 7), turned(ty, 7, n), 7, tx, ty);
                    add("deep", turned(tx, 5, n), turned(ty, n, 6), n, tx, ty);
                    add("tall", turned(tx, n, 4), turned(ty, 4, 3), 4, tx, ty);
                  }
                }
                add("batch", {3, 4, n}, {3, n, 5}, n, false, false);
                add("one for all", {4, n}, {3, n, 5}, n, false, false);
                add("both broadcast", {2, 1, 3, n}, {4, n, 2}, n, false, false);
                return cases;
              },
          .wide = 301};
}

KernelRow linear_row() {
  return {.of_length =
              [](int64_t n) {
                const Attrs a = Attrs::of(NoAttrs{});
                return std::vector<KernelCase>{
                    {"many outputs",
                     a,
                     {floats({4, 5}), floats({n, 5}, 2), floats({n}, 3)},
                     product_of(6)},
                    {"many inputs", a, {floats({4, n}), floats({6, n}, 2)}, product_of(n)},
                    {"three axes",
                     a,
                     {floats({2, n, 3}), floats({5, 3}, 2), floats({5}, 3)},
                     product_of(4)}};
              },
          .wide = 4'001};
}

KernelRow linear_dx_row() {
  return {.of_length =
              [](int64_t n) {
                const Attrs a = Attrs::of(NoAttrs{});
                return std::vector<KernelCase>{
                    {"many outputs", a, {floats({4, n}), floats({n, 5}, 2)}, product_of(n)},
                    {"many inputs", a, {floats({4, 5}), floats({5, n}, 2)}, product_of(5)},
                    {"many rows", a, {floats({n, 5}), floats({5, 3}, 2)}, product_of(5)}};
              },
          .wide = 4'001};
}

KernelRow pack_row() {
  return {.of_length =
              [](int64_t n) {
                const Attrs a = Attrs::of(NoAttrs{});
                std::vector<KernelCase> cases;
                for (const DType d : {DType::f32, DType::bf16}) {
                  cases.push_back({"many outputs", a, {floats({n, 5}).cast(d)}, {}});
                  cases.push_back({"many inputs", a, {floats({35, n}).cast(d)}, {}});
                }
                return cases;
              },
          .wide = 4'001};
}

// W as the panels that `pack` makes of it.
Tensor packed(const Tensor& w, DType dtype) {
  const int64_t out = w.shape()[0], in = w.shape()[1];
  Tensor panels(dtype, {PackedElements(out, in)});
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i)
      store_element(dtype, panels.bytes(), PackedIndex(in, o, i),
                    static_cast<double>(w.data<float>()[o * in + i]));
  }
  return panels;
}

KernelRow fused_linear_row() {
  return {
      .of_length =
          [](int64_t n) {
            std::vector<KernelCase> cases;
            struct Variant {
              const char* name;
              FusedLinearAttrs a;
              bool bias, base;
            };
            for (const auto& [out, in] : {std::pair{n, int64_t{5}}, {int64_t{20}, n}}) {
              for (const Variant& v : {Variant{"plain", {}, false, false},
                                       {"bias", {}, true, false},
                                       {"base", {.scale = 0.7}, false, true},
                                       {"gradient", {.backward = true, .scale = -2}, false, false},
                                       {"gradient sum", {.backward = true}, false, true},
                                       {"relu", {.activation = "relu"}, true, true},
                                       {"gelu_erf", {.activation = "gelu_erf"}, true, false},
                                       {"gelu_tanh", {.activation = "gelu_tanh"}, true, false},
                                       {"silu", {.activation = "silu"}, true, true},
                                       {"tanh", {.activation = "tanh"}, false, false}}) {
                FusedLinearAttrs a = v.a;
                a.out = out, a.in = in;
                const Tensor w = floats({out, in}, 2);
                const std::pair<const char*, Tensor> forms[] = {
                    {"", w},
                    {", packed", packed(w, DType::f32)},
                    {", packed in bf16", packed(w, DType::bf16)}};
                for (const auto& [form, weight] : forms) {
                  for (const int64_t rows : {1, 3}) {
                    KernelCase c{
                        fmt::format("{}, {} rows, {} -> {}{}", v.name, rows, in, out, form),
                        Attrs::of(a),
                        {floats({rows, a.features()}), weight,
                         v.bias ? floats({a.columns()}, 3) : Tensor(),
                         v.base ? floats({rows, a.columns()}, 4) : Tensor()},
                        product_of(a.features() + 4)};
                    // Activations see the rounding of their argument, which the terms bound.
                    c.tolerance.floor = a.activation.empty() ? 0 : 8 * 0x1p-23;
                    cases.push_back(std::move(c));
                  }
                }
              }
            }
            return cases;
          },
      .shortest = 1,
      .wide = 1'001};
}

// Batch, queries, keys, query heads, key heads, channels.
struct Sizes {
  int64_t b, t, s, h, hk, d;
};

std::vector<KernelCase> attention_cases(const Sizes& z, bool backward) {
  std::vector<KernelCase> cases;
  // Keys [B, S]: entry 0 sees nothing, the others skip some.
  Tensor keep = ints({z.b, z.s}, 0, 3, 9, DType::boolean);
  for (int64_t j = 0; j < z.s && z.b > 1; ++j) keep.data<bool>()[j] = false;
  Tensor bias = floats({z.h, z.t, z.s}, 5);
  Tensor hiding = floats({1, 1, z.t, z.s}, 6);
  for (int64_t i = 0; i < hiding.elements(); ++i) {
    if (i % 3 == 0 || i < z.s) hiding.data<float>()[i] = -std::numeric_limits<float>::infinity();
  }
  struct Variant {
    const char* name;
    AttentionAttrs a;
    Tensor bias, keep;
  };
  const double scale = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(1, z.d)));
  std::vector<Variant> variants = {
      {"plain", {.scale = scale}, {}, {}},
      {"heads first", {.scale = scale, .bthd = false}, {}, {}},
      {"causal", {.scale = scale, .causal = true}, {}, {}},
      {"window", {.scale = scale, .causal = true, .window = 3}, {}, {}},
      {"keep", {.scale = scale}, {}, keep},
      {"bias", {.scale = scale}, bias, {}},
      {"hiding bias and keep", {.scale = scale}, hiding, keep},
      {"softcap", {.scale = scale, .softcap = 1.5}, {}, {}},
      {"softcap, window", {.scale = scale, .softcap = 0.5, .causal = true, .window = 3}, {}, {}},
      {"softcap, bias and keep", {.scale = scale, .softcap = 2, .bthd = false}, bias, keep},
      {"dropout", {.scale = scale, .dropout = 0.3, .stream = 7}, {}, {}},
      {"dropout, window and keep",
       {.scale = scale, .causal = true, .window = 3, .bthd = false, .dropout = 0.6, .stream = -1},
       {},
       keep},
      {"dropout, softcap and bias",
       {.scale = scale, .softcap = 1.5, .causal = true, .dropout = 0.1},
       bias,
       {}}};
  for (Variant& v : variants) {
    const auto shape = [&](int64_t time, int64_t heads) {
      return v.a.bthd ? Shape{z.b, time, heads, z.d} : Shape{z.b, heads, time, z.d};
    };
    std::vector<Tensor> in = {floats(shape(z.t, z.h), 1, -2, 2), floats(shape(z.s, z.hk), 2, -2, 2),
                              floats(shape(z.s, z.hk), 3, -2, 2), v.bias, v.keep};
    if (v.a.dropout > 0) in.push_back(int_values({5, 11}));
    const auto terms = static_cast<double>(z.s + z.d);
    Tolerance t = {.result = 4, .input = 16 + terms, .floor = kNoDenormals};
    if (backward) {
      in.insert(in.begin(), floats(shape(z.t, z.h), 4));
      v.a.need_dbias = !v.bias.empty();
      // A key's gradient sums over all queries of all heads that read it.
      const int64_t queries = z.t * z.h / z.hk;
      t.input *= 2 * static_cast<double>(queries + 1);
    }
    cases.push_back({v.name, Attrs::of(v.a), in, t});
  }
  return cases;
}

KernelRow attention_row(bool backward) {
  return {.of_length =
              [backward](int64_t n) {
                std::vector<KernelCase> cases;
                for (const auto& [name, sizes] : {std::pair{"keys", Sizes{2, 3, n, 2, 1, 5}},
                                                  {"queries", Sizes{2, n, 3, 2, 2, 4}},
                                                  {"one query", Sizes{2, 1, n, 6, 2, 5}},
                                                  {"channels", Sizes{1, 3, 4, 2, 1, n}}}) {
                  for (KernelCase& c : attention_cases(sizes, backward)) {
                    c.name += std::string(", ") + name;
                    cases.push_back(std::move(c));
                  }
                }
                return cases;
              },
          .special =
              [backward] {
                auto cases = attention_cases({1, 55, 50, 2, 2, 8}, backward);
                // More heads on one key head, and more queries, than a block holds.
                for (const Sizes& z : {Sizes{3, 1, 7, 66, 1, 3}, {1, 70, 80, 2, 1, 4}}) {
                  for (KernelCase& c : attention_cases(z, backward)) cases.push_back(std::move(c));
                }
                if (backward) {
                  for (int need = 0; need < 8; ++need) {
                    KernelCase c = attention_cases({1, 3, 4, 2, 1, 5}, true)[0];
                    AttentionAttrs a = c.attrs.as<AttentionAttrs>();
                    a.need_dq = (need & 1) != 0, a.need_dk = (need & 2) != 0;
                    a.need_dv = (need & 4) != 0;
                    c.name = fmt::format("needs {}", need);
                    c.attrs = Attrs::of(a);
                    cases.push_back(std::move(c));
                  }
                }
                return cases;
              },
          .wide = 60};
}

KernelRow rope_row() {
  return {.of_length =
              [](int64_t n) {
                std::vector<KernelCase> cases;
                // Angles are double on both sides; sine, cosine and four products of at most 1 are
                // rounded.
                const Tolerance t = {.floor = 4 * 0x1p-23};
                RopeAttrs a;
                for (int64_t i = 0; i < n / 2; ++i)
                  a.inv_freq.push_back(1 / std::pow(1e4, static_cast<double>(i) / 17));
                const Tensor positions = ints({2, 3}, 0, 4000);
                cases.push_back({"channels", Attrs::of(a), {floats({2, 3, 2, n}), positions}, t});
                a.inverse = true, a.bthd = false, a.factor = 0.7;
                cases.push_back(
                    {"back, heads first", Attrs::of(a), {floats({2, 2, 3, n}), positions}, t});
                return cases;
              },
          .special =
              [] {
                return std::vector<KernelCase>{{"many positions",
                                                Attrs::of(RopeAttrs{.inv_freq = {1, 0.1}}),
                                                {floats({1, 90, 2, 5}), ints({1, 90}, 0, 90)},
                                                {.floor = 4 * 0x1p-23}}};
              },
          .wide = 400};
}

KernelRow t5_bucket_row() {
  return {.of_length = [](int64_t n) {
    return std::vector<KernelCase>{
        {"both ways", Attrs::of(T5BucketAttrs{true, 32, 128}), {ints({n}, -300, 300)}, {}},
        {"backwards", Attrs::of(T5BucketAttrs{false, 16, 40}), {ints({n}, -300, 300)}, {}}};
  }};
}

KernelRow deberta_bucket_row() {
  return {.of_length = [](int64_t n) {
    return std::vector<KernelCase>{
        {"logarithmic", Attrs::of(DebertaBucketAttrs{16, 128}), {ints({n}, -300, 300)}, {}},
        {"plain", Attrs::of(DebertaBucketAttrs{16, 0}), {ints({n}, -30, 30)}, {}}};
  }};
}

}  // namespace

KernelRows matmul_kernel_rows() {
  return {{"matmul", matmul_row()},
          {"linear", linear_row()},
          {"linear_dx", linear_dx_row()},
          {"pack", pack_row()},
          {"fused_linear", fused_linear_row()}};
}

KernelRows attention_kernel_rows() {
  return {{"attention", attention_row(false)},
          {"attention_backward", attention_row(true)},
          {"rope", rope_row()},
          {"t5_bucket", t5_bucket_row()},
          {"deberta_bucket", deberta_bucket_row()}};
}

}  // namespace graft::testing
