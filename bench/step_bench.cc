// One LoRA step of MiniLM on random tokens: time, share of the ceiling, and where the time goes.
//   step_bench [--folder DIR] [--steps N] [--method NAME] [--batch B] [--length T] [--threads N]
//              [--plain]     --plain: without the passes of autograd/passes/optimize.h
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>

#include "autograd/executor.h"
#include "autograd/op.h"
#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "bench/main.h"
#include "bench/measure.h"
#include "core/parallel.h"
#include "core/random.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "peft/method.h"
#include "train/step.h"

namespace graft::bench {
namespace {

struct Options {
  std::string folder =
      std::getenv("GRAFT_MINILM") != nullptr ? std::getenv("GRAFT_MINILM") : "build/minilm";
  std::string method = "lora";
  int64_t steps = 40, batch = 32, length = 64;
  int threads = num_threads();
  bool plain = false;
};

bool is_product(std::string_view op) {
  return op == "linear" || op == "linear_dx" || op == "fused_linear" || op == "matmul";
}
bool is_attention(std::string_view op) { return op == "attention" || op == "attention_backward"; }

// Operations of all matrix products in a graph, those inside attention included.
double product_flops(const Graph& graph) {
  double flops = 0;
  for (const Node& n : graph.nodes()) {
    if (is_product(n.op->name) || is_attention(n.op->name)) flops += cost_of(graph, n).flops;
  }
  return flops;
}

void fill(Executor& e, const ModelConfig& config, const Options& o) {
  const RandomStream random(1, 0);
  std::vector<std::vector<int64_t>> ids(static_cast<size_t>(o.batch));
  std::vector<TokenRow> rows;
  uint64_t at = 0;
  for (auto& row : ids) {
    for (int64_t t = 0; t < o.length; ++t) {
      row.push_back(
          1 + static_cast<int64_t>(random.uniform(at++) * static_cast<float>(config.vocab - 2)));
    }
    rows.push_back({row, {}});
  }
  fill_inputs(config, rows, o.length, {}, [&](const std::string& name) {
    return e.has_input(name) ? &e.input(name) : nullptr;
  });
  for (int64_t r = 0; r < o.batch; ++r) e.input("labels").data<int64_t>()[r] = r % 2;
}

void print_profile(const Executor& e, int64_t runs) {
  struct Group {
    double seconds = 0;
  };
  std::map<std::string, double> groups;
  double total = 0;
  for (const OpTime& t : e.profile()) total += t.seconds;
  fmt::print("\n{:24} {:>7} {:>10} {:>7} {:>9}\n", "op", "calls", "ms/step", "share", "GF/s");
  for (const OpTime& t : e.profile()) {
    const char* group = is_product(t.op)     ? "matrix products"
                        : is_attention(t.op) ? "attention"
                                             : "elementwise, norms, copies, updates";
    groups[group] += t.seconds;
    fmt::print("{:24} {:7} {:10.3f} {:6.1f}% {:9.1f}\n", t.op, t.calls / runs,
               1e3 * t.seconds / static_cast<double>(runs), 100 * t.seconds / total,
               t.flops / t.seconds / 1e9);
  }
  for (const auto& [name, seconds] : groups) {
    fmt::print("{:5.1f}% {}\n", 100 * seconds / total, name);
  }
}

void run(const Options& o) {
  set_num_threads(o.threads);
  const ModelConfig config = load_config(o.folder);
  const Graph base = build_model(
      config, {.batch = o.batch, .length = o.length, .head = Head::mean_pooled, .labels = 2});
  const peft::Method& method = peft::find_method(o.method);
  Json hyperparameters = {{"modules_to_save", {"classifier"}}};
  MicroBatch part{peft::apply(base, method, peft::complete_config(method, hyperparameters),
                              {.training = true})};
  const Graph step = training_step({&part, 1}, TaskKind::classification, {}, method.learning_rate);
  const double flops = product_flops(step);
  const auto program = std::make_shared<const Program>(plan(o.plain ? step : optimize(step)));

  ParamStore store;
  load_parameters(o.folder, part.adapted.graph, store);
  peft::initialize(part.adapted, store, 0);
  store.initialize(step, 0);
  for (const Param& p : part.adapted.graph.params()) {
    if (p.trainable) store.own(p.name);
  }
  Executor e(program, store);
  fill(e, config, o);

  fmt::print("{}\n{} on {}, batch {}, length {}, {} threads{}\n", machine(), o.method, o.folder,
             o.batch, o.length, o.threads, o.plain ? ", without optimizing passes" : "");
  fmt::print("{:.2f} GFLOP of matrix products a step; {:.1f} MB of arena, {:.1f} MB persistent\n",
             flops / 1e9, static_cast<double>(program->arena_bytes) / 1e6,
             static_cast<double>(program->persistent_bytes) / 1e6);
  const int rounds = static_cast<int>(o.steps);
  const Result r = interleaved({{"step", flops, [&] { e.run(); }}}, o.threads, rounds)[0];
  const double tokens = static_cast<double>(o.batch * o.length);
  fmt::print(
      "median {:.4f} s/step, {:.0f} tokens/s, {:.1f} GF/s: {:.2f} of the ceiling (best {:.2f}); "
      "loss {:.4f}\n",
      r.seconds, tokens / r.seconds, r.rate / 1e9, r.share, r.best,
      static_cast<double>(e.output("loss").data<float>()[0]));

  e.set_profile(true);
  for (int i = 0; i < rounds; ++i) e.run();
  print_profile(e, rounds);
}

}  // namespace
}  // namespace graft::bench

int main(int argc, char** argv) {
  graft::bench::Command command;
  graft::bench::Options o;
  command.add_option("--folder", o.folder);
  command.add_option("--method", o.method);
  command.add_option("--steps", o.steps);
  command.add_option("--batch", o.batch);
  command.add_option("--length", o.length);
  command.add_option("--threads", o.threads);
  command.add_flag("--plain", o.plain);
  return command.main(argc, argv, [&] { graft::bench::run(o); });
}
