// The order in which a step runs: what is updated early, and what has to wait.
#include "autograd/plan/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "autograd/passes/dead_code.h"
#include "autograd/planner.h"
#include "nn/optimizer.h"

namespace graft::testing {
namespace {

constexpr int64_t kWidth = 8, kLayers = 4;

Value weight(Builder& b, int64_t k) {
  return b.param({.name = fmt::format("layer.{}", k),
                  .type = {DType::f32, {kWidth, kWidth}},
                  .trainable = true,
                  .init = Init::normal(0.3)});
}

Value branch(Builder& b, const std::string& input) {
  Value x = b.input(input, DType::f32, {2, kWidth});
  for (int64_t k = 0; k < kLayers; ++k) x = ops::tanh(b, ops::linear(b, x, weight(b, k)));
  return ops::mean(b, ops::pow_scalar(b, x, 2));
}

void add_update(Builder& b, const std::map<std::string, Value>& gradients, double max_grad_norm) {
  ParamGroup group{.schedule = {.kind = "constant", .lr = 0.5}};
  for (const auto& [name, g] : gradients) group.params.push_back(name);
  add_optimizer(b, gradients, {}, {group}, max_grad_norm);
}

// Layers of equal weights, over one micro-batch or more.
Graph layers(int64_t parts, double max_grad_norm) {
  Builder b;
  std::map<std::string, Value> gradients;
  for (int64_t k = 0; k < parts; ++k) {
    b.part = static_cast<int32_t>(k);
    b.phase = Phase::forward;
    const Value loss = branch(b, fmt::format("x/{}", k));
    b.output(fmt::format("loss/{}", k), loss);
    const auto own = gradient(b, loss);
    b.phase = Phase::backward;
    for (const auto& [name, g] : own) {
      const auto [at, first] = gradients.try_emplace(name, g);
      if (!first) at->second = ops::add(b, at->second, g);
    }
  }
  add_update(b, gradients, max_grad_norm);
  return b.finish();
}

std::vector<int32_t> order_of(const Graph& graph) {
  const std::vector<bool> live = live_nodes(graph);
  return execution_order(graph, live, computed_once(graph, live));
}

// The most weight gradients that are there at once: those of a part, and sums of several parts.
size_t most_gradients(const Graph& graph) {
  const std::vector<int32_t> order = order_of(graph);
  const auto counts = [&](Value v) {
    return v.valid() && graph.node(v.node).phase == Phase::backward &&
           graph.type(v).shape == Shape{kWidth, kWidth};
  };
  std::map<int32_t, size_t> last;
  for (size_t at = 0; at < order.size(); ++at) {
    for (const Value v : graph.node(order[at]).inputs) {
      if (counts(v)) last[v.node] = at;
    }
  }
  size_t most = 0;
  for (size_t at = 0; at < order.size(); ++at) {
    const auto there = [&](size_t made) {
      return made <= at && last.contains(order[made]) && last.at(order[made]) >= at;
    };
    size_t now = 0;
    for (size_t made = 0; made < order.size(); ++made) now += there(made);
    most = std::max(most, now);
  }
  return most;
}

TEST(Order, GradientsAreUsedAsSoonAsTheyCanBe) {
  struct Case {
    int64_t parts;
    double max_grad_norm;
    size_t gradients;
  };
  for (const Case& c : {Case{1, 0, 2},  // a weight waits for the gradient of its layer's input
                        Case{1, 1, kLayers},      // the norm is of all of them
                        Case{2, 0, kLayers + 2},  // those of the first part, one more and their sum
                        Case{2, 1, kLayers + 2}})
    EXPECT_LE(most_gradients(layers(c.parts, c.max_grad_norm)), c.gradients)
        << c.parts << " parts, clipping at " << c.max_grad_norm;
}

void expect_same_as_evaluated(const Graph& graph, const Inputs& inputs) {
  ParamStore before;
  before.initialize(graph, 1);
  const Evaluation want = evaluate(graph, inputs, before);
  for (const Recompute recompute : {Recompute::none, Recompute::cheap}) {
    ParamStore store;
    store.initialize(graph, 1);
    Executor e(std::make_shared<const Program>(plan(graph, {.recompute = recompute})), store);
    e.set_poison(true);
    for (const auto& [name, t] : inputs) e.set_input(name, t);
    e.run();
    for (const auto& [name, t] : want.assigned) {
      EXPECT_EQ(std::memcmp(store.get(name).bytes(), t.bytes(), t.size_bytes()), 0)
          << name << ", recompute " << name_of(recompute);
    }
  }
}

// The gradient of p is there at once, but what the linear layer reads is computed from p, and again
// in backward: until then p must be what it was.
TEST(Order, UpdatesWaitForWhatIsComputedAgain) {
  Builder b;
  const Value x = b.input("x", DType::f32, {2, kWidth});
  const Value p = b.param({.name = "p",
                           .type = {DType::f32, {kWidth}},
                           .trainable = true,
                           .init = Init::uniform(0.1, 0.2)});
  const Value signs = ops::sign(b, ops::reshape(b, p, {1, kWidth}));
  const Value y = ops::linear(b, ops::mul(b, x, signs), weight(b, 0));
  const Value first = ops::mean(b, ops::pow_scalar(b, ops::tanh(b, y), 2));
  const Value second = ops::mean(b, ops::pow_scalar(b, p, 2));  // backward begins with the last
  const Value loss = ops::add(b, first, second);
  b.output("loss", loss);
  add_update(b, gradient(b, loss), 0);  // a step of 0.5 turns every sign
  Tensor rows(DType::f32, {2, kWidth});
  std::ranges::fill(rows.span<float>(), 0.7f);
  const Graph graph = b.finish();
  const Program program = plan(graph);
  EXPECT_TRUE(std::ranges::any_of(program.steps, [&](const Program::Step& step) {
    return step.action == Program::Action::recompute && graph.node(step.node).op->name == "mul";
  }));
  expect_same_as_evaluated(graph, {{"x", rows}});
}

// Whoever reads the old value, through a view or another leaf of the same name, reads it in time.
TEST(Order, UpdatesWaitForReadersOfViews) {
  Builder b;
  const Value x = b.input("x", DType::f32, {2, kWidth});
  const Value w = weight(b, 0);
  const Value loss = ops::mean(b, ops::pow_scalar(b, ops::linear(b, x, w), 2));
  b.output("loss", loss);
  add_update(b, gradient(b, loss), 0);
  b.phase = Phase::update;
  const Value flat = ops::reshape(b, w, {kWidth * kWidth});
  b.assign("old", ops::scale(b, flat, 2));
  b.param({.name = "old",
           .type = {DType::f32, {kWidth * kWidth}},
           .kind = Param::Kind::state,
           .init = Init::zeros()});
  Tensor rows(DType::f32, {2, kWidth});
  std::ranges::fill(rows.span<float>(), 0.7f);
  expect_same_as_evaluated(b.finish(), {{"x", rows}});
}

}  // namespace
}  // namespace graft::testing
