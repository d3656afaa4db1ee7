// What planning takes, and what a memory budget costs in recomputation: a LoRA step of LLaMA's
// shape, shapes alone.
//   plan_bench [--layers N] [--batch B] [--length T] [--rounds N]
#include <fmt/format.h>

#include "autograd/passes/dead_code.h"
#include "autograd/passes/optimize.h"
#include "autograd/plan/budget.h"
#include "autograd/plan/order.h"
#include "autograd/planner.h"
#include "bench/main.h"
#include "bench/measure.h"
#include "models/model.h"
#include "peft/method.h"
#include "train/step.h"

namespace graft::bench {
namespace {

struct Options {
  int64_t layers = 12, batch = 4, length = 256;
  int rounds = 5;
};

constexpr int64_t kWidth = 768;

Graph step_of(const Options& o) {
  const ModelConfig model =
      parse_config(fmt::format(R"({{"model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "vocab_size": 32000, "hidden_size": {}, "intermediate_size": 2048,
        "num_hidden_layers": {}, "num_attention_heads": 12, "num_key_value_heads": 12,
        "max_position_embeddings": 2048}})",
                               kWidth, o.layers),
                   "LLaMA, 110M");
  const peft::Method& lora = peft::find_method("lora");
  const TaskKind kind = TaskKind::language;
  const Json config = training_config(model, lora, Json::object(), 10, kind);
  const Graph base = build_model(
      model, {.batch = o.batch, .length = o.length, .head = training_head(model, kind)});
  const MicroBatch whole{
      peft::apply(base, lora, config, {.model = model.model_type, .training = true}), 1};
  return optimize(training_step({&whole, 1}, kind, {}, 1e-3));
}

double seconds_of(int rounds, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int round = 0; round < rounds; ++round) {
    const double before = now(1);
    work();
    seconds.push_back(now(1) - before);
  }
  return median(seconds);
}

void times(const Options& o, const Graph& step) {
  fmt::print("planning {} blocks, {} nodes; ms\n", o.layers, step.nodes().size());
  const auto line = [&](const char* what, const std::function<void()>& work) {
    fmt::print("  {:58} {:8.1f}\n", what, 1e3 * seconds_of(o.rounds, work));
  };
  const std::vector<bool> live = live_nodes(step);
  const auto order = execution_order(step, live, computed_once(step, live));
  const Scratch scratch(step.nodes().size(), 0);
  const auto keeps = [](Value) { return true; };
  Segmentation segments;
  line("segments", [&] { segments = cut_into_segments(step, order, scratch, keeps); });
  line("segments, their options, the chain for every budget",
       [&] { BudgetPlanner(step, order, cut_into_segments(step, order, scratch, keeps)); });
  const BudgetPlanner planner(step, order, segments);
  line("runs under one budget",
       [&] { planner.runs(planner.least() + (planner.most() - planner.least()) / 8); });
  for (const Recompute recompute : {Recompute::none, Recompute::cheap})
    line(recompute == Recompute::none ? "plan, none: places, steps, offsets" : "plan, cheap",
         [&] { plan(step, {.recompute = recompute}); });
  const size_t peak = plan(step).peak_bytes();
  const size_t arena = plan(step).arena_bytes;
  line("plan, auto: half of cheap's arena",
       [&] { plan(step, {.recompute = Recompute::automatic, .budget = peak - arena / 2}); });
}

void curve(const Options& o, const Graph& step) {
  double forward = 0;
  const double unit = static_cast<double>(o.batch * o.length * kWidth) * 4;
  for (const Node& n : step.nodes()) {
    if (n.phase == Phase::forward) forward += cost_of(step, n).flops;
  }
  const auto line = [&](const std::string& name, const Program& p) {
    const auto arena = static_cast<double>(p.arena_bytes);
    fmt::print("  {:24} {:8.1f} MiB  {:6.2f} units a layer  {:6.1f} % of forward again\n", name,
               arena / 1048576, arena / unit / static_cast<double>(o.layers),
               100 * p.recompute_flops / forward);
  };
  fmt::print("arena of a step, batch {} x {}\n", o.batch, o.length);
  line("none", plan(step, {.recompute = Recompute::none}));
  const Program cheap = plan(step);
  line("cheap", cheap);
  const Program least = plan(step, {.recompute = Recompute::automatic, .budget = 1});
  for (const double share : {0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15}) {
    const auto budget = cheap.persistent_bytes +
                        static_cast<size_t>(share * static_cast<double>(cheap.arena_bytes));
    if (budget < least.peak_bytes()) continue;
    line(fmt::format("auto, {:.0f} % of cheap's", 100 * share),
         plan(step, {.recompute = Recompute::automatic, .budget = budget}));
  }
  line("auto, the least", least);
}

void run(const Options& o) {
  fmt::print("{}\n", machine());
  const Graph step = step_of(o);
  times(o, step);
  curve(o, step);
}

}  // namespace
}  // namespace graft::bench

int main(int argc, char** argv) {
  graft::bench::Command command;
  graft::bench::Options o;
  command.add_option("--layers", o.layers);
  command.add_option("--batch", o.batch);
  command.add_option("--length", o.length);
  command.add_option("--rounds", o.rounds);
  return command.main(argc, argv, [&] { graft::bench::run(o); });
}
