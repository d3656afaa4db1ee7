// Commands on methods and shapes: methods, plan, bench.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <tuple>

#include "apps/command.h"
#include "autograd/compile.h"
#include "autograd/passes/fold.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/random.h"
#include "kernels/ceiling.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "peft/method.h"
#include "train/step.h"

namespace graft {
namespace {

struct Methods {
  CommonOptions common;
};

// Whether everything that the method trains folds into the base model: asked of a small graph.
bool merges(const peft::Method& method) {
  const ModelConfig tiny = parse_config(
      R"({"model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2,
          "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": 12,
          "max_position_embeddings": 64, "type_vocab_size": 2})",
      "a small model");
  Json config = peft::complete_config(method, Json::object());
  const int64_t length = 2 + peft::virtual_tokens(method, config);
  const Graph base =
      build_model(tiny, {.batch = 1, .length = length, .head = Head::mean_pooled, .labels = 2});
  try {
    expect_mergeable(peft::apply(base, method, config).graph);
  } catch (const GraphError&) {
    return false;
  }
  return true;
}

void run_methods(const Methods& o) {
  Json list = Json::array();
  for (const peft::Method& m : peft::all_methods()) {
    list.push_back({{"name", m.name},
                    {"class", m.family},
                    {"verbs", m.verbs},
                    {"mergeable", merges(m)},
                    {"reference", m.reference},
                    {"peft_type", m.peft_type},
                    {"learning_rate", m.learning_rate},
                    {"hyperparameters", peft::complete_config(m, Json::object())}});
  }
  if (o.common.json) {
    print_json({{"methods", list}});
    return;
  }
  for (const Json& m : list) {
    std::cout << fmt::format("{:16} {:22} {:22} {:7} {}\n", m["name"].get<std::string>(),
                             m["class"].get<std::string>(), m["verbs"].get<std::string>(),
                             m["mergeable"] == true ? "merges" : "",
                             m["reference"].get<std::string>());
    std::cout << fmt::format("{:16} lr {}", "", m["learning_rate"].get<double>());
    for (const auto& [key, value] : m["hyperparameters"].items()) {
      std::cout << fmt::format(", {} {}", key, value.dump());
    }
    std::cout << "\n";
  }
}

// ---- a training step on shapes

struct Step {
  CommonOptions common;
  MethodOptions method;
  std::string model;
  int64_t batch = 32, length = 64, labels = 2;
};

void add_step_options(CLI::App& command, Step& o) {
  command.add_option("--model", o.model, "Hugging Face model folder, or a config.json alone")
      ->required();
  add_method_options(command, o.method);
  command.add_option("--batch", o.batch, "rows per step")->check(CLI::PositiveNumber);
  command.add_option("--length", o.length, "tokens per row")->check(CLI::PositiveNumber);
  command.add_option("--labels", o.labels, "classes of the head")->check(CLI::PositiveNumber);
}

struct PlannedStep {
  ModelConfig model;
  const peft::Method* method;
  int64_t virtual_tokens;
  peft::Adapted adapted;  // as trained
  std::shared_ptr<const Program> program;
};

PlannedStep plan_step(const Step& o) {
  PlannedStep s;
  s.model = load_config(o.model);
  Json config;
  std::tie(s.method, config) = method_of(o.method);
  config = training_config(s.model, *s.method, config, StepOptions().steps);
  s.virtual_tokens = peft::virtual_tokens(*s.method, config);
  const Graph base = build_model(s.model, {.batch = o.batch,
                                           .length = o.length + s.virtual_tokens,
                                           .head = task_head(s.model),
                                           .labels = o.labels});
  s.adapted = peft::apply(base, *s.method, config, {.training = true});
  const MicroBatch whole{s.adapted, 1};
  s.program =
      compile(training_step({&whole, 1}, TaskKind::classification, {}, s.method->learning_rate));
  return s;
}

struct Plan : Step {
  std::string budget;
};

void run_plan(const Plan& o) {
  const PlannedStep s = plan_step(o);
  const Program& program = *s.program;
  expect_budget(program, parse_budget(o.budget));
  int64_t total = 0;
  size_t adapter_bytes = 0;
  for (const Param& p : s.adapted.graph.params()) {
    if (is_float(p.type.dtype)) total += p.type.shape.elements();
    if (p.trainable) adapter_bytes += p.type.bytes();
  }
  const int64_t trainable = peft::trainable_count(s.adapted.graph, false);
  const MemoryParts parts = memory_parts(program);
  const std::vector<std::pair<const char*, size_t>> named = {
      {"weights", parts.weights},
      {"adapters", parts.adapters},
      {"gradients", parts.gradients},
      {"optimizer", parts.optimizer},
      {"kept_activations", parts.activations},
      {"workspace", parts.workspace},
      {"inputs", parts.inputs}};
  if (o.common.json) {
    Json bytes;
    for (const auto& [name, n] : named) bytes[name] = n;
    print_json({{"method", s.method->name},
                {"total_parameters", total},
                {"trainable_parameters", trainable},
                {"adapter_bytes", adapter_bytes},
                {"peak_bytes", program.peak_bytes()},
                {"parts", bytes},
                {"minimum_budget_bytes", program.peak_bytes()},
                {"flops_per_step", program.flops},
                {"recompute_flops_per_step", 0}});
    return;
  }
  std::cout << fmt::format(
      "{} on {}: {} of {} parameters train ({:.3f} %)\nbatch {} x {} tokens: {:.2f} GFLOP a step, "
      "{:.1f} MB at its peak\n",
      s.method->name, o.model, trainable, total,
      100 * static_cast<double>(trainable) / static_cast<double>(total), o.batch, o.length,
      program.flops / 1e9, static_cast<double>(program.peak_bytes()) / 1e6);
  for (const auto& [name, n] : named) {
    std::cout << fmt::format("  {:17} {:10.2f} MB\n", name, static_cast<double>(n) / 1e6);
  }
  std::cout << "largest values at the peak:" << explain_peak(program) << "\n";
}

// ---- bench

struct Bench : Step {
  int64_t steps = 20;
};

// Weights of a model of which only the shapes are known: products as small as trained ones, norms
// that do nothing.
void draw_weights(const Graph& graph, ParamStore& store, uint64_t seed) {
  for (const Param& p : graph.params()) {
    if (!p.adapter.empty() || p.init.kind != Init::Kind::given || !is_float(p.type.dtype)) continue;
    const bool gain = p.type.shape.rank() == 1 && p.name.ends_with("weight");
    store.set(p.name, draw(gain                       ? Init::ones()
                           : p.type.shape.rank() == 1 ? Init::zeros()
                                                      : Init::normal(0.02),
                           p.type, seed, p.name));
  }
}

// Tokens that mean nothing, different in every place.
void fill_random(const PlannedStep& s, const Bench& o, Executor& e) {
  const RandomStream numbers(static_cast<uint64_t>(o.common.seed), hash_name("bench"));
  uint64_t at = 0;
  auto below = [&](int64_t n) {
    return static_cast<int64_t>(numbers.uniform(at++) * static_cast<float>(n)) % n;
  };
  std::vector<std::vector<int64_t>> ids(static_cast<size_t>(o.batch));
  std::vector<TokenRow> rows;
  for (auto& row : ids) {
    for (int64_t t = 0; t < o.length; ++t) row.push_back(below(s.model.vocab));
    rows.push_back({row, {}});
  }
  fill_inputs(s.model, rows, o.length, {s.virtual_tokens, 0}, [&](const std::string& name) {
    return e.has_input(name) ? &e.input(name) : nullptr;
  });
  for (int64_t& label : e.input("labels").span<int64_t>()) label = below(o.labels);
}

size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

void run_bench(const Bench& o) {
  using Clock = std::chrono::steady_clock;
  const PlannedStep s = plan_step(o);
  ParamStore store;
  if (s.model.folder.empty()) {
    draw_weights(s.adapted.graph, store, static_cast<uint64_t>(o.common.seed));
  } else {
    load_parameters(s.model.folder, s.adapted.graph, store);
  }
  size_t model_bytes = 0;
  for (const std::string& name : store.names()) model_bytes += store.stored(name).size_bytes();
  peft::initialize(s.adapted, store, static_cast<uint64_t>(o.common.seed));
  if (!s.adapted.fisher.params.empty()) {
    std::map<std::string, Tensor> even;  // any choice of entries costs the same
    for (const std::string& name : s.adapted.fisher.params) {
      even[name] = draw(Init::uniform(0, 1), s.adapted.graph.param(name).type, 0, name);
    }
    s.adapted.fisher.start(even, store);
  }
  store.initialize(s.program->graph, static_cast<uint64_t>(o.common.seed));
  for (const Param& p : s.adapted.graph.params()) {
    if (p.trainable) store.own(p.name);
  }
  const size_t before = resident_bytes();
  Executor e(s.program, store);
  std::vector<double> seconds, shares;
  for (int64_t step = 0; step <= o.steps && !interrupted(); ++step) {
    fill_random(s, o, e);
    if (e.has_input("rng")) {
      e.input("rng").data<int64_t>()[0] = o.common.seed;
      e.input("rng").data<int64_t>()[1] = step;
    }
    const double ceiling = multiply_add_ceiling(num_threads());
    const auto start = Clock::now();
    e.run();
    if (step == 0) continue;
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    shares.push_back(s.program->flops / seconds.back() / ceiling);
  }
  if (seconds.empty()) throw Interrupted("interrupted before the first step was timed");
  std::ranges::sort(seconds);
  std::ranges::sort(shares);
  const double median = seconds[seconds.size() / 2], share = shares[shares.size() / 2];
  const double tokens = static_cast<double>(o.batch * o.length) / median;
  const size_t peak = s.program->persistent_bytes + e.high_water_bytes();
  const size_t after = resident_bytes();
  if (o.common.json) {
    print_json({{"method", s.method->name},
                {"seconds_per_step", median},
                {"seconds_per_step_min", seconds[0]},
                {"tokens_per_second", tokens},
                {"flops_per_step", s.program->flops},
                {"share_of_peak", share},
                {"peak_bytes", peak},
                {"planned_peak_bytes", s.program->peak_bytes()},
                {"model_bytes", model_bytes},
                {"rss_over_model_bytes", after - std::min(after, before)}});
  } else {
    std::cout << fmt::format(
        "{}: {:.4f} s a step (best {:.4f}), {:.0f} tokens/s, {:.1f} GFLOP/s: {:.2f} of what "
        "multiply-adds reach here; {:.1f} MB at the peak, as planned\n",
        s.method->name, median, seconds[0], tokens, s.program->flops / median / 1e9, share,
        static_cast<double>(peak) / 1e6);
  }
}

}  // namespace

void add_shape_commands(CLI::App& app) {
  add_command<Methods>(app, "methods", "every method, its hyperparameters and defaults",
                       run_methods);

  const auto [plan, p] = add_command<Plan>(
      app, "plan", "parameters, memory and operations of a training step, from shapes alone",
      run_plan);
  add_step_options(*plan, *p);
  plan->add_option("--budget", p->budget, "bytes a step may take (480M), or auto: what is free");

  const auto [bench, b] = add_command<Bench>(
      app, "bench", "times training steps on random tokens: how fast will it be here?", run_bench);
  add_step_options(*bench, *b);
  bench->add_option("--steps", b->steps, "timed steps, after one that is not")
      ->check(CLI::PositiveNumber);
}

}  // namespace graft
