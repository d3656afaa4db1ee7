// graft bench: how fast would a training step be here? On tokens that mean nothing, under random
// weights where the model has none.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>

#include "apps/step_command.h"
#include "autograd/executor.h"
#include "autograd/memory_report.h"
#include "core/parallel.h"
#include "core/process_memory.h"
#include "core/random.h"
#include "core/units.h"
#include "kernels/ceiling.h"
#include "models/weights.h"

namespace graft {
namespace {

struct Bench : StepCommand {
  int64_t steps = 20;
};

// A batch that is different in every place, and from step to step.
class RandomBatch {
 public:
  RandomBatch(const PlannedStep& step, int64_t rows, int64_t seed)
      : s_(step), rows_(rows), numbers_(static_cast<uint64_t>(seed), hash_name("bench")) {}

  void fill(Executor& e) {
    if (e.has_input("pixel_values")) {
      for (float& x : e.input("pixel_values").span<float>()) x = 2 * next() - 1;
    } else {
      fill_tokens(e);
    }
    if (e.has_input("targets")) {
      for (float& x : e.input("targets").span<float>()) x = next();
    } else {
      fill_labels(e);
    }
  }

 private:
  float next() { return numbers_.uniform(at_++); }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() * static_cast<float>(n)) % n; }

  void fill_tokens(Executor& e) {
    std::vector<int64_t> ids(static_cast<size_t>(rows_ * (s_.length + s_.target_length)));
    for (int64_t& id : ids) id = below(s_.model.vocab);
    std::vector<TokenRow> rows;
    const auto length = static_cast<size_t>(s_.length),
               said = static_cast<size_t>(s_.target_length);
    std::span<const int64_t> rest = ids;
    for (int64_t r = 0; r < rows_; ++r) {
      rows.push_back({rest.first(length), {}, rest.subspan(length, said)});
      rest = rest.subspan(length + said);
    }
    fill_inputs(s_.model, rows, s_.length, s_.front, [&](const std::string& name) {
      return e.has_input(name) ? &e.input(name) : nullptr;
    });
  }

  // Nothing is to be predicted from what stands in front of a text; all the rest is.
  void fill_labels(Executor& e) {
    const std::span<int64_t> labels = e.input("labels").span<int64_t>();
    const auto columns = static_cast<int64_t>(labels.size()) / rows_;
    const bool whole_rows = s_.kind == TaskKind::language && s_.target_length == 0;
    const int64_t front = whole_rows ? s_.front.virtual_tokens : 0;
    for (size_t i = 0; i < labels.size(); ++i) {
      const bool text = static_cast<int64_t>(i) % columns >= front;
      labels[i] = text ? below(s_.outputs) : kNoLabel;
    }
    if (e.has_input("label_weight")) {
      *e.input("label_weight").data<float>() = 1 / static_cast<float>(rows_ * (columns - front));
    }
  }

  const PlannedStep& s_;
  int64_t rows_;
  RandomStream numbers_;
  uint64_t at_ = 0;
};

ParamStore weights_of(const PlannedStep& s, uint64_t seed) {
  ParamStore store;
  const Graph& graph = s.adapted.graph;
  if (!s.model.folder.empty()) load_parameters(s.model.folder, graph, store);
  peft::initialize(s.adapted, store, seed);
  if (!s.adapted.fisher.params.empty()) {
    std::map<std::string, Tensor> even;  // any choice of entries costs the same
    for (const std::string& name : s.adapted.fisher.params)
      even[name] = draw(Init::uniform(0, 1), graph.param(name).type, 0, name);
    s.adapted.fisher.start(even, store);
  }
  store.initialize(s.program->graph, seed);
  for (const Param& p : graph.params()) {
    if (p.trainable) store.own(p.name);
  }
  return store;
}

struct Timing {
  std::vector<double> seconds, shares;  // sorted; shares of what multiply-adds reach

  static double median(const std::vector<double>& sorted) { return sorted[sorted.size() / 2]; }
};

Timing time_steps(const Bench& o, const PlannedStep& s, Executor& e) {
  using Clock = std::chrono::steady_clock;
  RandomBatch batch(s, o.batch, o.common.seed);
  Timing t;
  for (int64_t step = 0; step <= o.steps && !interrupted(); ++step) {
    batch.fill(e);
    if (e.has_input("rng")) {
      e.input("rng").data<int64_t>()[0] = o.common.seed;
      e.input("rng").data<int64_t>()[1] = step;
    }
    const double ceiling = multiply_add_ceiling(num_threads());
    const auto start = Clock::now();
    e.run();
    if (step == 0) continue;
    t.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    t.shares.push_back(s.program->flops / t.seconds.back() / ceiling);
  }
  if (t.seconds.empty()) throw Interrupted("interrupted before the first step was timed");
  std::ranges::sort(t.seconds);
  std::ranges::sort(t.shares);
  return t;
}

void run_bench(const Bench& o) {
  const bool config_alone = load_config(o.model).folder.empty();
  const PlannedStep s = plan_step(o, config_alone ? StartWeights::drawn : StartWeights::given);
  restart_peak();
  const size_t before = resident_bytes(), weights = memory_parts(*s.program).weights;
  ParamStore store = weights_of(s, static_cast<uint64_t>(o.common.seed));
  const size_t arena = s.program->arena_bytes;
  const bool offloaded = !o.memory.offload.empty();
  Executor e(s.program, store,
             offloaded ? std::make_shared<Arena>(arena, o.memory.offload) : nullptr);
  restart_peak();
  const Timing t = time_steps(o, s, e);
  const double median = Timing::median(t.seconds), share = Timing::median(t.shares);
  const double tokens = static_cast<double>(o.batch * (s.length + s.target_length)) / median;
  const size_t peak = s.program->persistent_bytes + e.high_water_bytes();
  const size_t measured = e.peak_over_weights(before);
  if (o.common.json) {
    print_json({{"method", s.method->name},
                {"task_kind", name_of(s.kind)},
                {"batch", o.batch},
                {"length", s.length},
                {"max_grad_norm", o.step.max_grad_norm},
                {"optim", o.step.optim},
                {"target_length", s.target_length},
                {"seconds_per_step", median},
                {"seconds_per_step_min", t.seconds[0]},
                {"tokens_per_second", tokens},
                {"flops_per_step", s.program->flops},
                {"share_of_peak", share},
                {"peak_bytes", peak},
                {"planned_peak_bytes", s.program->peak_bytes()},
                {"offloaded_bytes", offloaded ? arena : 0},
                {"model_bytes", weights},
                {"planned_over_model_bytes", s.program->peak_bytes() - weights},
                {"rss_over_model_bytes", measured}});
    return;
  }
  std::cout << fmt::format(
      "{}, {}: {:.4f} s a step (best {:.4f}), {:.0f} tokens/s, {:.1f} GFLOP/s: {:.2f} of what "
      "multiply-adds reach here; {:.1f} MB at the peak, as planned; beside the model's {:.1f} MB "
      "the process had {:.1f} MB, {:.1f} MB planned\n",
      s.method->name, name_of(s.kind), median, t.seconds[0], tokens,
      s.program->flops / median / 1e9, share, mega(peak), mega(weights), mega(measured),
      mega(s.program->peak_bytes() - weights));
}

}  // namespace

void add_bench_command(CLI::App& app) {
  const auto [bench, b] = add_command<Bench>(
      app, "bench", "times training steps on random tokens: how fast will it be here?", run_bench);
  add_step_options(*bench, *b);
  add_offload_option(*bench, b->memory);
  bench->add_option("--steps", b->steps, "timed steps, after one that is not")
      ->check(CLI::PositiveNumber);
}

}  // namespace graft
