// Every pass on random graphs: what a graph means before and after it; and the planned executor
// against the evaluator, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <tuple>

#include "autograd/executor.h"
#include "autograd/op.h"
#include "autograd/ops/families.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/common_subexpressions.h"
#include "autograd/passes/dead_code.h"
#include "autograd/passes/fold.h"
#include "autograd/passes/fuse_loss.h"
#include "autograd/planner.h"
#include "tests/support/golden.h"
#include "tests/support/random_graph.h"

namespace graft::testing {
namespace {

constexpr uint64_t kGraphs = 500;

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.size_bytes() == 0 || std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0);
}

void expect_same_bytes(const std::map<std::string, Tensor>& got,
                       const std::map<std::string, Tensor>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, t] : want) {
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_TRUE(same_bytes(got.at(name), t)) << name << ": " << mismatch(got.at(name), t, 0, 0);
  }
}

void expect_same_meaning(const Graph& before, const Graph& after, const Inputs& inputs,
                         const ParamStore& params) {
  const Evaluation want = evaluate(before, inputs, params), got = evaluate(after, inputs, params);
  expect_same_bytes(got.outputs, want.outputs);
  expect_same_bytes(got.assigned, want.assigned);
}

class PassFuzz : public ::testing::Test {
 protected:
  // What fails names the graph's seed and prints it.
  template <typename F>
  void for_each_graph(F f) {
    for (uint64_t seed = 0; seed < kGraphs && !HasFailure(); ++seed) {
      SCOPED_TRACE(fmt::format("seed {}", seed));
      const RandomGraph g = random_graph(seed);
      try {
        f(g);
      } catch (const std::exception& e) {
        ADD_FAILURE() << e.what();
      }
      if (HasFailure()) std::printf("%s", to_text(g.step).c_str());
    }
  }
};

TEST_F(PassFuzz, GraphsAreWhatTheyPrint) {
  std::set<std::string_view> generated;
  for_each_graph([&](const RandomGraph& g) {
    verify(g.step);
    // A rewrite that changes nothing gives the same graph, and so does the same recipe.
    EXPECT_EQ(to_text(Builder(g.step).finish()), to_text(g.step));
    static uint64_t seed = 0;
    EXPECT_EQ(to_text(random_graph(seed++).step), to_text(g.step));
    for (const Node& n : g.step.nodes()) generated.insert(n.op->name);
    // Comparing NaN with NaN would prove nothing.
    for (const auto& [name, t] : evaluate(g.step, g.step_inputs, g.params).outputs) {
      const auto values = t.span<float>();
      EXPECT_TRUE(std::ranges::all_of(values, [](float x) { return std::isfinite(x); })) << name;
    }
  });
  // The fuzzer is worth what it covers: all ops but the optimizers and these.
  const std::set<std::string_view> elsewhere = {"sign",
                                                "t5_bucket",
                                                "deberta_bucket",
                                                "fastfood",
                                                "fastfood_draw",
                                                "fastfood_adjoint",
                                                "cast",
                                                "pack",
                                                "fused_linear",
                                                "linear_cross_entropy",
                                                "linear_cross_entropy_backward"};
  for (auto family : ops::families()) {
    if (family.data() == ops::optimizer_ops().data()) continue;
    for (const OpDef& op : family)
      EXPECT_TRUE(generated.contains(op.name) || elsewhere.contains(op.name)) << op.name;
  }
}

TEST_F(PassFuzz, DeadCode) {
  size_t removed = 0;
  for_each_graph([&](const RandomGraph& g) {
    const Graph live = live_part(g.step);
    removed += g.step.nodes().size() - live.nodes().size();
    expect_same_meaning(g.step, live, g.step_inputs, g.params);
    EXPECT_EQ(std::ranges::count(live_nodes(live), false), 0);
    EXPECT_EQ(to_text(live_part(live)), to_text(live));
  });
  EXPECT_GT(removed, kGraphs);
}

TEST_F(PassFuzz, CommonSubexpressions) {
  size_t removed = 0;
  for_each_graph([&](const RandomGraph& g) {
    const Graph live = live_part(g.step), merged = common_subexpressions(g.step);
    removed += live.nodes().size() - merged.nodes().size();
    expect_same_meaning(g.step, merged, g.step_inputs, g.params);
    EXPECT_EQ(to_text(common_subexpressions(merged)), to_text(merged));
    std::set<std::tuple<std::string_view, std::string, std::vector<Value>, int32_t>> seen;
    size_t draws = 0;
    for (const Node& n : merged.nodes()) {
      draws += n.op->draws;
      if (n.op->draws || n.op->updates[0] >= 0) continue;
      EXPECT_TRUE(seen.insert({n.op->name, n.attrs.str(), n.inputs, n.part}).second)
          << n.op->name << " is computed twice";
    }
    EXPECT_EQ(draws,
              std::ranges::count_if(live.nodes(), [](const Node& n) { return n.op->draws; }));
  });
  EXPECT_GT(removed, kGraphs);
}

// Another order of the same sums: in double, so that rounding stays far below a wrong factor.
TEST_F(PassFuzz, CheapForms) {
  size_t changed = 0;
  for_each_graph([&](const RandomGraph& g) {
    Delta delta;
    const Graph cheap = cheap_forms(g.model, &delta);
    changed += !delta.added.empty();
    const Evaluation want = evaluate(g.model, g.model_inputs, g.params, Backend::ref),
                     got = evaluate(cheap, g.model_inputs, g.params, Backend::ref);
    for (const auto& [name, t] : want.outputs)
      EXPECT_EQ(mismatch(got.outputs.at(name), t, 1e-9, 1e-9), "") << name;
  });
  EXPECT_GT(changed, kGraphs / 10);
}

// Logits of any size: here they are never as many as a chunk holds.
TEST_F(PassFuzz, FusedLoss) {
  size_t changed = 0;
  for_each_graph([&](const RandomGraph& g) {
    const Graph fused = fuse_loss(g.model, 0);
    changed += to_text(fused) != to_text(live_part(g.model, nullptr, UnusedInputs::keep));
    EXPECT_EQ(to_text(fuse_loss(fused, 0)), to_text(fused));
    const Evaluation want = evaluate(g.model, g.model_inputs, g.params, Backend::ref),
                     got = evaluate(fused, g.model_inputs, g.params, Backend::ref);
    for (const auto& [name, t] : want.outputs)
      EXPECT_EQ(mismatch(got.outputs.at(name), t, 1e-9, 1e-9), "") << name;
  });
  EXPECT_GT(changed, kGraphs / 20);
}

TEST_F(PassFuzz, FoldedParameters) {
  size_t merged = 0;
  for_each_graph([&](const RandomGraph& g) {
    const Graph live = live_part(g.model);
    const Folded folded = fold_parameters(live, g.params);
    merged += folded.merged.size();
    // The weight is computed by the same kernels, only earlier.
    const Evaluation want = evaluate(live, g.model_inputs, g.params),
                     got = evaluate(folded.graph, g.model_inputs, folded.params);
    expect_same_bytes(got.outputs, want.outputs);
  });
  EXPECT_GT(merged, kGraphs / 10);
}

TEST_F(PassFuzz, ExecutorEqualsEvaluator) {
  for_each_graph([&](const RandomGraph& g) {
    const Graph shared = common_subexpressions(g.step);
    const size_t most = plan(shared, {.recompute = Recompute::none}).peak_bytes();
    const std::vector<std::pair<const Graph*, PlanOptions>> plans = {
        {&g.step, {.recompute = Recompute::none}},
        {&g.step, {.recompute = Recompute::cheap}},
        {&g.step, {.recompute = Recompute::cheap, .in_place = false}},
        {&shared, {.recompute = Recompute::cheap}},
        {&shared, {.recompute = Recompute::automatic, .budget = most - most / 8}},
        {&shared, {.recompute = Recompute::automatic, .budget = 1}}};
    for (const auto& [stepped, options] : plans) {
      const Graph& graph = *stepped;
      const Evaluation want = evaluate(graph, g.step_inputs, g.params);
      ParamStore store;
      for (const std::string& name : g.params.names()) store.set(name, g.params.get(name).clone());
      Executor executor(std::make_shared<const Program>(plan(graph, options)), store);
      executor.set_poison(true);
      for (const std::string& name : graph.input_names())
        executor.set_input(name, g.step_inputs.at(name));
      executor.run();
      std::map<std::string, Tensor> outputs, assigned;
      for (const auto& [name, t] : want.outputs) outputs[name] = executor.output(name);
      for (const auto& [name, t] : want.assigned) assigned[name] = store.get(name);
      expect_same_bytes(outputs, want.outputs);
      expect_same_bytes(assigned, want.assigned);
      EXPECT_EQ(executor.high_water_bytes(), executor.program().arena_bytes);
    }
  });
}

}  // namespace
}  // namespace graft::testing
