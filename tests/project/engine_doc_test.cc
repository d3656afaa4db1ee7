// docs/engine.md prints one small graph at each stage. This test makes the same graph and compares:
// the page stays true.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "autograd/draw.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/common_subexpressions.h"
#include "autograd/planner.h"
#include "core/atomic_file.h"
#include "nn/layers.h"
#include "nn/optimizer.h"
#include "peft/method.h"

namespace graft {
namespace {

// A line of the page that begins a stage: "<!-- stage NAME -->", then a fenced block.
void expect_stage(const std::string& page, const std::string& name, const std::string& text) {
  const std::string want = "<!-- stage " + name + " -->\n```\n" + text + "```\n";
  EXPECT_NE(page.find(want), std::string::npos) << "docs/engine.md should hold\n" << want;
}

TEST(EngineDoc, EveryStageIsAsPrinted) {
  const std::string page = read_file(std::string(GRAFT_SOURCE_DIR) + "/docs/engine.md");

  Builder b;
  const Value x = b.input("x", DType::f32, {64, 16});
  const Value h = ops::relu(b, nn::linear(b, x, "first", 16));
  b.output("y", nn::linear(b, h, "second", 4));
  const Graph built = b.finish();
  expect_stage(page, "built", to_text(built));

  const peft::Adapted adapted =
      peft::apply(built, peft::find_method("lora"),
                  {{"target_modules", {"first"}}, {"r", 2}, {"lora_alpha", 4}});
  expect_stage(page, "rewritten", to_text(adapted.graph, adapted.delta));

  Builder joint(cheap_forms(adapted.graph));
  const Value loss =
      ops::mse(joint, joint.graph().output("y"), joint.input("target", DType::f32, {64, 4}));
  joint.output("loss", loss);
  joint.keep_outputs({"loss"});
  const auto gradients = gradient(joint, loss);
  add_optimizer(joint, gradients, {.kind = "sgd"},
                {{{"first.lora_A.weight", "first.lora_B.weight"}, {.lr = 0.1}, 0}}, 0);
  const Graph step = joint.finish();
  expect_stage(page, "joint", to_text(step));
  // "One node": the constant 1 of the loss's own gradient and of the update.
  EXPECT_EQ(common_subexpressions(step).nodes().size() + 1, step.nodes().size());
  expect_stage(page, "planned", to_text(plan(step, {.backend = Backend::ref})));
}

}  // namespace
}  // namespace graft
