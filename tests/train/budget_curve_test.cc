// What is kept of LLaMA's blocks against what runs again, beside the planner of PyTorch's compiler.
#include <gtest/gtest.h>

#include "autograd/op.h"
#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "models/model.h"
#include "peft/method.h"
#include "tests/support/kept_bytes.h"
#include "train/step.h"

namespace graft::testing {
namespace {

constexpr int64_t kLayers = 32, kBatch = 2, kLength = 32, kWidth = 96;

// LLaMA's proportions: feed-forward 8/3 of the width, as many heads for keys as for queries.
Graph step_of(const Json& set) {
  const ModelConfig model = parse_config(
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 64,
          "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 32,
          "num_attention_heads": 6, "num_key_value_heads": 6, "max_position_embeddings": 64})",
      "LLaMA's proportions");
  const peft::Method& lora = peft::find_method("lora");
  const Json config = training_config(model, lora, set, 10, TaskKind::language);
  const Graph base = build_model(
      model,
      {.batch = kBatch, .length = kLength, .head = training_head(model, TaskKind::language)});
  const MicroBatch whole{
      peft::apply(base, lora, config, {.model = model.model_type, .training = true}), 1};
  return optimize(training_step({&whole, 1}, TaskKind::language, {}, 1e-3));
}

struct Point {
  double again;  // of the operations of forward, in percent
  double kept;   // units of tokens x width a layer, as backward begins
};

Point point_of(const Program& program) {
  double forward = 0;
  for (const Node& n : program.graph.nodes()) {
    if (n.phase == Phase::forward) forward += cost_of(program.graph, n).flops;
  }
  constexpr double kUnit = kBatch * kLength * kWidth * 4;
  return {100 * program.recompute_flops / forward,
          static_cast<double>(kept_bytes(program)) / kUnit / kLayers};
}

class Curve : public ::testing::TestWithParam<Json> {};

TEST_P(Curve, LiesBelowTheCompilers) {
#if defined(__SANITIZE_ADDRESS__)
  if (GetParam().contains("target_modules")) GTEST_SKIP() << "the same code as with fewer targets";
#endif
  const Graph step = step_of(GetParam());
  const Program cheap = plan(step);
  const size_t most = cheap.peak_bytes(),
               least = plan(step, {.recompute = Recompute::automatic, .budget = 1}).peak_bytes();
  // From little memory to much, closer to each other where the curve is steep.
  std::vector<Point> points;
  constexpr size_t kBudgets = 12;
  for (size_t i = 0; i < kBudgets; ++i) {
    const size_t budget = least + (most - least) * i * i / (kBudgets * kBudgets);
    const Program program = plan(step, {.recompute = Recompute::automatic, .budget = budget});
    EXPECT_LE(program.peak_bytes(), budget);
    points.push_back(point_of(program));
    if (i > 0) {
      EXPECT_LT(points[i].again, points[i - 1].again);
    }
  }
  points.push_back(point_of(cheap));
  EXPECT_LT(points.back().again, 1) << "elementwise";
  const auto kept_at = [&](double again) {
    size_t i = 1;
    while (points[i].again > again && i + 1 < points.size()) ++i;
    const Point &above = points[i - 1], &below = points[i];
    return below.kept +
           (above.kept - below.kept) * (again - below.again) / (above.again - below.again);
  };
  // At 100 % the compiler keeps nothing and runs all of forward a second time as backward begins:
  // its peak is the one without recomputation.
  const Point compiler[] = {{1, 11.5}, {14, 10.5}, {28, 8.6}, {40, 6.9},
                            {52, 5.2}, {64, 3.5},  {76, 1.7}};
  for (const Point& theirs : compiler)
    EXPECT_LE(kept_at(theirs.again), theirs.kept) << theirs.again << " %";
}

INSTANTIATE_TEST_SUITE_P(Lora, Curve,
                         ::testing::Values(Json{{"r", 1}},
                                           Json{{"r", 1},
                                                {"target_modules",
                                                 {"q_proj", "k_proj", "v_proj", "o_proj",
                                                  "gate_proj", "up_proj", "down_proj"}}}),
                         [](const auto& row) {
                           return row.param.contains("target_modules") ? "All" : "Qv";
                         });

}  // namespace
}  // namespace graft::testing
