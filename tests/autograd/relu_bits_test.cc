// A ReLU's gradient from one bit per element: where it is built, what is kept then, and that it is
// the gradient from the output, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "autograd/compile.h"
#include "autograd/evaluate.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/dead_code.h"
#include "autograd/planner.h"
#include "tests/support/kept_bytes.h"
#include "tests/support/random_graph.h"

namespace graft::testing {
namespace {

constexpr int64_t kRows = 16, kWidth = 64;

Value weight(Builder& b, const char* name, const Shape& shape, bool trainable) {
  return b.param(
      {.name = name, .type = {DType::f32, shape}, .trainable = trainable, .init = Init::normal(1)});
}

// sum(t f(relu(x W^T))) and its gradient, W trained.
Graph step_of(const std::function<Value(Builder&, Value)>& f) {
  Builder b;
  const Value w = weight(b, "w", {kWidth, kWidth}, true);
  const Value x = b.input("x", DType::f32, {kRows, kWidth});
  const Value y = f(b, ops::relu(b, ops::linear(b, x, w)));
  const Value loss = ops::sum(b, ops::mul(b, y, b.input("t", DType::f32, b.shape(y))));
  b.output("loss", loss);
  for (const auto& [name, g] : gradient(b, loss)) b.output("grad/" + name, g);
  return b.finish();
}

size_t count(const Graph& g, std::string_view op) {
  return static_cast<size_t>(
      std::ranges::count_if(g.nodes(), [&](const Node& n) { return n.op->name == op; }));
}

// The same graph with every such gradient taken from the output.
Graph from_outputs(const Graph& g) {
  Builder b(g);
  for (size_t i = 0; i < g.nodes().size(); ++i) {
    const Node& n = g.nodes()[i];
    if (n.op->name != "relu_backward_bits") continue;
    b.phase = n.phase;
    b.part = n.part;
    const Value y = g.node(n.inputs[1].node).inputs[0];
    b.replace_uses({static_cast<int32_t>(i), 0}, b.node("relu_backward", {n.inputs[0], y}));
  }
  return live_part(b.finish(), nullptr, UnusedInputs::keep);
}

struct Reader {
  const char* name;
  std::function<Value(Builder&, Value)> build;
  bool bits;     // whether the gradient is built from bits
  bool outputs;  // whether the outputs are kept; if not, bits are
};

std::vector<Reader> readers() {
  const auto product = [](Builder& b, Value y, bool trainable) {
    return ops::linear(b, y, weight(b, "v", {8, kWidth}, trainable));
  };
  const auto dropped = [](Builder& b, Value y) {
    return ops::dropout(b, y, b.input("rng", DType::i64, {2}), 0.5, 1);
  };
  return {
      {"frozen product", [=](Builder& b, Value y) { return product(b, y, false); }, true, false},
      {"trained product", [=](Builder& b, Value y) { return product(b, y, true); }, false, true},
      {"frozen product behind dropout",
       [=](Builder& b, Value y) { return product(b, dropped(b, y), false); }, true, false},
      // Either of the two values tells the bits, and the earlier one tells both.
      {"trained product behind dropout",
       [=](Builder& b, Value y) { return product(b, dropped(b, y), true); }, true, true},
      {"trained gain",
       [=](Builder& b, Value y) {
         return product(b, ops::mul(b, y, weight(b, "gain", {kWidth}, true)), false);
       },
       false, true},
      {"its square", [](Builder& b, Value y) { return ops::pow_scalar(b, y, 2); }, false, true},
  };
}

TEST(ReluBits, OneBitIsKeptWhereTheOutputIsNot) {
  constexpr size_t kOutputs = kRows * kWidth * sizeof(float), kLoss = 64;
  for (const Reader& r : readers()) {
    SCOPED_TRACE(r.name);
    const Graph step = step_of(r.build);
    EXPECT_EQ(count(step, "relu_backward_bits"), r.bits ? 1u : 0u);
    EXPECT_EQ(count(step, "relu_backward"), r.bits ? 0u : 1u);
    const auto program = compile(step, PlanOptions{.recompute = Recompute::cheap});
    EXPECT_EQ(kept_bytes(*program), kLoss + (r.outputs ? kOutputs : kOutputs / 32));
  }
}

// The bits stand behind what they are made of, so that it need not live until forward ends.
TEST(ReluBits, NothingRunsAgainToFreeTheOutput) {
  const Graph step = step_of(readers()[0].build);
  const auto program = compile(step, PlanOptions{.recompute = Recompute::none});
  EXPECT_EQ(program->recompute_flops, 0);
  EXPECT_EQ(kept_bytes(*program), 64 + kRows * kWidth / 8);
}

void expect_same_results(const Graph& a, const Graph& b, const Inputs& inputs,
                         const ParamStore& params, Backend backend) {
  const Evaluation got = evaluate(a, inputs, params, backend);
  const Evaluation want = evaluate(b, inputs, params, backend);
  for (const auto results : {&Evaluation::outputs, &Evaluation::assigned}) {
    for (const auto& [name, t] : want.*results) {
      const Tensor& g = (got.*results).at(name);
      EXPECT_TRUE(t.size_bytes() == 0 || std::memcmp(g.bytes(), t.bytes(), t.size_bytes()) == 0)
          << name;
    }
  }
}

TEST(ReluBits, GradientsHaveTheBitsOfThoseFromOutputs) {
  int with_bits = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    const RandomGraph g = random_graph(seed);
    if (count(g.step, "relu_backward_bits") == 0) continue;
    ++with_bits;
    const Graph plain = from_outputs(g.step);
    EXPECT_EQ(count(plain, "relu_backward_bits"), 0u);
    expect_same_results(g.step, plain, g.step_inputs, g.params, Backend::cpu);
  }
  EXPECT_GT(with_bits, 30);
}

// NaN passes nothing on, as from the output; what comes from above passes as it is.
TEST(ReluBits, SpecialValues) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = INFINITY;
  const std::vector<float> some = {0.0F, -0.0F, kNan, -kNan, kInf, -kInf, 1e-45F, -1e-45F, 1, -1};
  std::vector<float> x, t;
  for (const float a : some) {
    for (const float b : some) x.push_back(a), t.push_back(b);
  }
  const Shape shape{static_cast<int64_t>(x.size())};
  Builder b;
  const Value in = weight(b, "x", shape, true);
  const Value loss = ops::sum(b, ops::mul(b, ops::relu(b, in), b.input("t", DType::f32, shape)));
  b.output("grad", gradient(b, loss).at("x"));
  const Graph g = b.finish();
  ASSERT_EQ(count(g, "relu_backward_bits"), 1u);
  ParamStore params;
  params.set("x", Tensor::from<float>(shape, x));
  for (const Backend backend : {Backend::cpu, Backend::ref})
    expect_same_results(g, from_outputs(g), {{"t", Tensor::from<float>(shape, t)}}, params,
                        backend);
}

}  // namespace
}  // namespace graft::testing
