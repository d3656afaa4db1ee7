// fused_linear is the composition of plain ops that it stands for; pack_weights brings it in where
// it says and nowhere else.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/memory_report.h"
#include "autograd/ops.h"
#include "autograd/passes/pack_weights.h"
#include "autograd/planner.h"
#include "core/error.h"
#include "tests/support/golden.h"
#include "tests/support/random_tensor.h"

namespace graft::testing {
namespace {

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

// ---- the op

struct OpCase {
  Shape x;
  FusedLinearAttrs attrs;
  bool bias, base;
};

const OpCase kOpCases[] = {
    {{5, 40}, {.out = 33, .in = 40}, false, false},
    {{2, 3, 24}, {.out = 70, .in = 24, .scale = -0.5}, true, true},
    {{37, 64}, {.out = 64, .in = 20, .backward = true, .scale = 3}, false, true},
    {{4, 5, 18}, {.out = 18, .in = 96, .backward = true}, false, false},
    {{70, 96}, {.out = 100, .in = 96, .activation = "gelu_erf"}, true, false},
    {{3, 50}, {.out = 40, .in = 50, .activation = "gelu_tanh"}, true, true},
    {{3, 50}, {.out = 40, .in = 50, .activation = "relu"}, true, true},
    {{9, 20}, {.out = 21, .in = 20, .activation = "silu"}, false, true},
    {{9, 20}, {.out = 21, .in = 20, .activation = "tanh"}, true, false},
    // Thin: few columns, or a few features only.
    {{30, 40}, {.out = 4, .in = 40, .scale = 2}, true, true},
    {{30, 8}, {.out = 64, .in = 8, .scale = 2}, false, true},
    {{30, 40}, {.out = 40, .in = 8, .backward = true, .scale = 2}, false, true},
    {{1, 300}, {.out = 700, .in = 300}, true, true},
};

Value plain(Builder& b, const OpCase& c, Value x, Value w, Value bias, Value base) {
  const Shape s = b.shape(x);
  Value y = c.attrs.backward
                ? ops::reshape(b,
                               b.node("linear_dx",
                                      {ops::reshape(b, x, {s.product(0, s.rank() - 1), s[-1]}), w}),
                               s.with(-1, c.attrs.in))
                : ops::linear(b, x, w);
  y = ops::scale(b, y, c.attrs.scale);
  if (c.bias) y = ops::add(b, y, bias);
  if (c.base) y = ops::add(b, y, base);
  return c.attrs.activation.empty() ? y : b.node(c.attrs.activation, {y});
}

TEST(FusedLinear, IsTheCompositionOfPlainOps) {
  for (const OpCase& c : kOpCases) {
    SCOPED_TRACE(c.x.str() + " " + Attrs::of(c.attrs).str());
    const Shape columns{c.attrs.columns()}, result = c.x.with(-1, c.attrs.columns());
    Builder b;
    const Value x = b.input("x", DType::f32, c.x),
                w = b.input("w", DType::f32, {c.attrs.out, c.attrs.in});
    const Value bias = b.input("bias", DType::f32, columns),
                base = b.input("base", DType::f32, result);
    b.output("plain", plain(b, c, x, w, bias, base));
    for (const bool packed : {false, true}) {
      const Value y = b.node(
          "fused_linear",
          {x, packed ? b.node("pack", {w}) : w, c.bias ? bias : Value{}, c.base ? base : Value{}},
          Attrs::of(c.attrs));
      b.output(packed ? "packed" : "stored", y);
    }
    const Inputs inputs{{"x", random_tensor(c.x, 1)},
                        {"w", random_tensor({c.attrs.out, c.attrs.in}, 2)},
                        {"bias", random_tensor(columns, 3)},
                        {"base", random_tensor(result, 4)}};
    const Graph graph = b.finish();
    const Evaluation ref = evaluate(graph, inputs, {}, Backend::ref);
    const Evaluation cpu = evaluate(graph, inputs, {}, Backend::cpu);
    // Each of k products of numbers below 1 rounds once, scaled; the activations' slopes and errors
    // are below 1.13 and 1e-6.
    const double k = static_cast<double>(c.attrs.features());
    const double rounding =
        1.13 * (k + 4) * std::sqrt(k) * std::fabs(c.attrs.scale) * 0x1p-23 + 2e-6;
    const Tensor& want = ref.outputs.at("plain");
    for (const char* form : {"stored", "packed"}) {
      EXPECT_EQ(mismatch(ref.outputs.at(form), want, 1e-12, 1e-12), "") << form;
      EXPECT_EQ(mismatch(cpu.outputs.at(form), want, 1e-6, rounding), "") << form;
    }
    // gemm.h promises equal bits except for thin products.
    if (c.attrs.columns() > 16) {
      EXPECT_TRUE(same_bits(cpu.outputs.at("stored"), cpu.outputs.at("packed")));
    }
  }
}

TEST(FusedLinear, IsNotDifferentiated) {
  Builder b;
  const Value x = b.input("x", DType::f32, {3, 20}), w = b.input("w", DType::f32, {20, 20});
  const Value y = b.node("fused_linear", {x, w}, Attrs::of(FusedLinearAttrs{.out = 20, .in = 20}));
  const std::vector<Value> ys{y}, gys{b.input("g", DType::f32, {3, 20})}, xs{x};
  try {
    gradient(b, ys, gys, xs);
    ADD_FAILURE() << "differentiated";
  } catch (const GraphError& e) {
    EXPECT_NE(std::string(e.what()).find("differentiate before fusing"), std::string::npos);
  }
}

// The result may stand where the base stood, but not where x stood, even if both are one value.
TEST(FusedLinear, OverwritesTheBaseAlone) {
  for (const bool residual_of_x : {false, true}) {
    Builder b;
    const Value x = ops::scale(b, b.input("x", DType::f32, {50, 32}), 2);
    const Value base = residual_of_x ? x : ops::scale(b, b.input("base", DType::f32, {50, 32}), 2);
    const Value w = b.input("w", DType::f32, {32, 32});
    b.output("y", b.node("fused_linear", {x, w, {}, base},
                         Attrs::of(FusedLinearAttrs{.out = 32, .in = 32})));
    const Graph graph = b.finish();
    Inputs inputs{{"x", random_tensor({50, 32}, 1)}, {"w", random_tensor({32, 32}, 2)}};
    if (!residual_of_x) inputs["base"] = random_tensor({50, 32}, 3);
    const Evaluation want = evaluate(graph, inputs, {});
    ParamStore store;
    Executor e(std::make_shared<const Program>(plan(graph)), store);
    for (const auto& [name, t] : inputs) e.set_input(name, t);
    e.run();
    EXPECT_TRUE(same_bits(e.output("y"), want.outputs.at("y")));
    const auto place = [&](Value v) {
      const Program& p = e.program();
      return p.place[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
    };
    const Node& n = graph.node(graph.output("y").node);
    EXPECT_EQ(place(graph.output("y")) == place(n.inputs[3]), !residual_of_x);
  }
}

// ---- packing

struct PackCase {
  const char* name;
  bool packed;
  std::function<void(Builder& b, Value x, Value w)> build;  // x [40, 48], w [48, 48]
  bool trainable = false;
};

const std::vector<PackCase>& pack_cases() {
  static const std::vector<PackCase> cases = {
      {"frozen", true, [](Builder& b, Value x, Value w) { b.output("y", ops::linear(b, x, w)); }},
      {"both uses", true,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, x, w));
         b.output("dx", b.node("linear_dx", {x, w}));
       }},
      {"fused", true,
       [](Builder& b, Value x, Value w) {
         b.output("y", b.node("fused_linear", {x, w, {}, x},
                              Attrs::of(FusedLinearAttrs{.out = 48, .in = 48, .scale = 2})));
       }},
      {"trainable", false,
       [](Builder& b, Value x, Value w) { b.output("y", ops::linear(b, x, w)); }, true},
      {"assigned", false,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, x, w));
         b.assign("w", ops::scale(b, w, 0.5));
       }},
      {"read by another op", false,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, x, w));
         b.output("z", ops::matmul(b, x, w));
       }},
      {"as x", false,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, w, ops::slice(b, x, 0, 0, 20)));
       }},
      {"a result", false,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, x, w));
         b.output("w", w);
       }},
      {"transposed", true,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, x, ops::transpose(b, w, {1, 0})));
       }},
      {"both uses, transposed", true,
       [](Builder& b, Value x, Value w) {
         const Value t = ops::transpose(b, w, {1, 0});
         b.output("y", ops::linear(b, x, t));
         b.output("dx", b.node("linear_dx", {x, t}));
       }},
      {"trainable and transposed", false,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, x, ops::transpose(b, w, {1, 0})));
       },
       true},
      {"other reader is dead", true,
       [](Builder& b, Value x, Value w) {
         b.output("y", ops::linear(b, x, w));
         ops::sum(b, w);
       }},
  };
  return cases;
}

int64_t count(const Graph& graph, std::string_view op) {
  return std::ranges::count_if(graph.nodes(), [&](const Node& n) { return n.op->name == op; });
}

TEST(PackWeights, WhereItPaysAndWithTheSameBits) {
  for (const PackCase& c : pack_cases()) {
    SCOPED_TRACE(c.name);
    Builder b;
    const Value x = b.input("x", DType::f32, {40, 48});
    const Value w =
        b.param({.name = "w", .type = {DType::f32, {48, 48}}, .trainable = c.trainable});
    c.build(b, x, w);
    const Graph graph = b.finish(), packed = pack_weights(graph);
    EXPECT_EQ(count(packed, "pack"), c.packed);
    EXPECT_EQ(count(packed, "linear") + count(packed, "linear_dx") == 0, c.packed);

    ParamStore store;
    store.set("w", random_tensor({48, 48}, 1));
    const Inputs inputs{{"x", random_tensor({40, 48}, 2)}};
    const Evaluation want = evaluate(graph, inputs, store);
    const auto before = std::make_shared<const Program>(plan(graph));
    const auto program = std::make_shared<const Program>(plan(packed));
    Executor e(program, store);
    for (int run = 0; run < 2; ++run) {
      if (run == 1 && !want.assigned.empty()) break;  // w is another one by now
      e.set_input("x", inputs.at("x"));
      e.run();
      for (const auto& [name, t] : want.outputs) EXPECT_TRUE(same_bits(e.output(name), t)) << name;
      EXPECT_EQ(e.high_water_bytes(), program->arena_bytes);
    }
    // One form of the weight is read, so one is counted: 48 columns fill two panels of 32.
    const size_t panels = 64 * 48 * 4, rows = 48 * 48 * 4;
    EXPECT_EQ(program->persistent_bytes, before->persistent_bytes + (c.packed ? panels - rows : 0));
    EXPECT_EQ(memory_parts(*program).weights, c.packed ? panels : rows);
  }
}

TEST(PackWeights, ANewWeightIsPackedAnew) {
  Builder b;
  const Value x = b.input("x", DType::f32, {40, 48});
  b.output("y", ops::linear(b, x, b.param({.name = "w", .type = {DType::f32, {32, 48}}})));
  const Graph graph = b.finish();
  ParamStore store;
  store.set("w", random_tensor({32, 48}, 1));
  Executor e(std::make_shared<const Program>(plan(pack_weights(graph))), store);
  for (const uint64_t seed : {1, 2}) {
    store.set("w", random_tensor({32, 48}, seed));
    const Inputs inputs{{"x", random_tensor({40, 48}, 3)}};
    e.set_input("x", inputs.at("x"));
    e.run();
    EXPECT_TRUE(same_bits(e.output("y"), evaluate(graph, inputs, store).outputs.at("y")));
  }
}

// Parameters in 16 bits: read as they are stored where products and lookups alone read them.
struct StoredCase {
  const char* name;
  DType stored;
  std::map<DType, int64_t> params;  // of the graph, by type
  size_t bytes;                     // of weights that a run reads: 48 x 48, or panels of 64 x 48
  std::function<Value(Builder& b, Value x, Value ids, Value w)> build;
};

const std::vector<StoredCase>& stored_cases() {
  using ops::embedding, ops::linear, ops::mul, ops::sum, ops::transpose;
  static const std::vector<StoredCase> cases = {
      {"product",
       DType::bf16,
       {{DType::bf16, 1}},
       64 * 48 * 2,
       [](Builder& b, Value x, Value, Value w) { return linear(b, x, w); }},
      {"product and gradient",
       DType::bf16,
       {{DType::bf16, 1}},
       64 * 48 * 2,
       [](Builder& b, Value x, Value, Value w) {
         return b.node("linear_dx", {linear(b, x, w), w});
       }},
      {"transposed",
       DType::bf16,
       {{DType::bf16, 1}},
       64 * 48 * 2,
       [](Builder& b, Value x, Value, Value w) {
         return linear(b, x, transpose(b, w, {1, 0}));
       }},
      {"both ways round",
       DType::bf16,
       {{DType::f32, 1}},
       48 * 48 * 4 + 64 * 48 * 4,
       [](Builder& b, Value x, Value, Value w) {
         return linear(b, linear(b, x, w), transpose(b, w, {1, 0}));
       }},
      {"lookup",
       DType::bf16,
       {{DType::bf16, 1}},
       48 * 48 * 2,
       [](Builder& b, Value, Value ids, Value w) { return embedding(b, ids, w); }},
      {"lookup of halves",
       DType::f16,
       {{DType::f16, 1}},
       48 * 48 * 2,
       [](Builder& b, Value, Value ids, Value w) { return embedding(b, ids, w); }},
      {"tied",
       DType::bf16,
       {{DType::bf16, 1}},
       64 * 48 * 2,
       [](Builder& b, Value x, Value ids, Value w) {
         return linear(b, mul(b, x, embedding(b, ids, w)), w);
       }},
      {"tied, wide",
       DType::f32,
       {{DType::f32, 1}},
       64 * 48 * 4,
       [](Builder& b, Value x, Value ids, Value w) {
         return linear(b, mul(b, x, embedding(b, ids, w)), w);
       }},
      {"product of halves",
       DType::f16,
       {{DType::f32, 1}},
       64 * 48 * 4,
       [](Builder& b, Value x, Value, Value w) { return linear(b, x, w); }},
      {"something else reads it",
       DType::bf16,
       {{DType::f32, 1}},
       48 * 48 * 4 + 48 * 4,  // the rows, and their sum
       [](Builder& b, Value x, Value, Value w) { return mul(b, linear(b, x, w), sum(b, w, {0})); }},
  };
  return cases;
}

TEST(PackWeights, KeepsTheStoredTypeAndTheBits) {
  for (const StoredCase& c : stored_cases()) {
    SCOPED_TRACE(c.name);
    Builder b;
    const Value x = b.input("x", DType::f32, {5, 48}), ids = b.input("ids", DType::i64, {5});
    const Value w = b.param({.name = "w", .type = {DType::f32, {48, 48}}});
    b.output("y", c.build(b, x, ids, w));
    const Graph graph = b.finish();
    const Tensor weight = random_tensor({48, 48}, 1).cast(c.stored);
    ParamStore wide, store;
    wide.set("w", weight.cast(DType::f32));
    store.set("w", weight, DType::f32);

    const Graph packed = pack_weights(graph, &store);
    std::map<DType, int64_t> params;
    for (const Param& p : packed.params()) ++params[p.type.dtype];
    EXPECT_EQ(params, c.params);
    const auto program = std::make_shared<const Program>(plan(packed));
    EXPECT_EQ(memory_parts(*program).weights, c.bytes);

    Inputs inputs{{"x", random_tensor({5, 48}, 2)}, {"ids", Tensor(DType::i64, {5})}};
    for (int64_t i = 0; i < 5; ++i) inputs["ids"].data<int64_t>()[i] = i * 11 + 3;
    const Tensor want = evaluate(graph, inputs, wide).outputs.at("y");
    const auto run = [&](ParamStore& s) {
      Executor e(program, s);
      for (const auto& [name, t] : inputs) {
        if (e.has_input(name)) e.set_input(name, t);
      }
      e.run();
      return e.output("y").clone();
    };
    EXPECT_TRUE(same_bits(run(store), want));
    const bool narrow = program->graph.param("w").type.dtype != DType::f32;
    // Someone wanted its values as floats in between; or put others there.
    ParamStore widened;
    widened.set("w", weight, DType::f32);
    widened.get("w");
    EXPECT_TRUE(same_bits(run(widened), want));
    ParamStore other;
    other.set("w", random_tensor({48, 48}, 7));
    if (narrow) {
      EXPECT_THROW(run(other), GraphError);
    }
  }
}

TEST(PackWeights, LeavesThinWeights) {
  Builder b;
  const Value x = b.input("x", DType::f32, {40, 48});
  const Value down = b.param({.name = "down", .type = {DType::f32, {16, 48}}});
  const Value up = b.param({.name = "up", .type = {DType::f32, {48, 16}}});
  b.output("y", ops::linear(b, ops::linear(b, x, down), up));
  EXPECT_EQ(count(pack_weights(b.finish()), "pack"), 0);
}

}  // namespace
}  // namespace graft::testing
