// Commands that compute nothing: methods, plan.
#include <iostream>
#include <vector>

#include "apps/step_command.h"
#include "autograd/passes/fold.h"
#include "autograd/plan/schedule_file.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "models/model.h"
#include "peft/method.h"

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

// ---- plan

std::string batch_text(int64_t batch, const PlannedStep& s) {
  const std::string answer =
      s.target_length > 0 ? fmt::format(" answered by {}", s.target_length) : "";
  return fmt::format("{} x {} tokens{}", batch, s.length, answer);
}

struct Plan : StepCommand {
  std::string schedule;
};

void write_schedule(const Plan& o, const PlannedStep& s) {
  const PlanOptions memory = plan_options(o.memory);
  Json file = schedule_json(*s.program);
  file["model"] = o.model;
  file["method"] = s.method->name;
  file["budget_bytes"] = memory.budget;
  file["recompute"] = name_of(memory.recompute);
  write_json_file(o.schedule, file);
}

void run_plan(const Plan& o) {
  const PlannedStep s = plan_step(o);
  const Program& program = *s.program;
  expect_budget(program, plan_options(o.memory).budget);
  if (!o.schedule.empty()) write_schedule(o, s);
  int64_t total = 0;
  size_t adapter_bytes = 0;
  for (const Param& p : s.adapted.graph.params()) {
    const bool own = p.adapter.empty() && !peft::is_task_head(p.name);  // the pretrained model's
    if (own && is_float(p.type.dtype)) total += p.type.shape.elements();
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
                {"task_kind", name_of(s.kind)},
                {"batch", o.batch},
                {"length", s.length},
                {"target_length", s.target_length},
                {"total_parameters", total},
                {"trainable_parameters", trainable},
                {"adapter_bytes", adapter_bytes},
                {"peak_bytes", program.peak_bytes()},
                {"parts", bytes},
                {"minimum_budget_bytes", program.peak_bytes()},
                {"flops_per_step", program.flops},
                {"recompute", name_of(plan_options(o.memory).recompute)},
                {"recompute_flops_per_step", program.recompute_flops}});
    return;
  }
  std::cout << fmt::format(
      "{} on {}, {}: {} of {} parameters train ({:.3f} %)\nbatch {}: {:.2f} GFLOP a step, {:.2f} % "
      "of it computed again, {:.1f} MB at its peak\n",
      s.method->name, o.model, name_of(s.kind), trainable, total,
      100 * static_cast<double>(trainable) / static_cast<double>(total), batch_text(o.batch, s),
      program.flops / 1e9, 100 * program.recompute_flops / program.flops,
      static_cast<double>(program.peak_bytes()) / 1e6);
  for (const auto& [name, n] : named) {
    std::cout << fmt::format("  {:17} {:10.2f} MB\n", name, static_cast<double>(n) / 1e6);
  }
  std::cout << "largest values at the peak:" << explain_peak(program) << "\n";
}

}  // namespace

void add_shape_commands(CLI::App& app) {
  add_command<Methods>(app, "methods", "every method, its hyperparameters and defaults",
                       run_methods);

  const auto [plan, p] = add_command<Plan>(
      app, "plan", "parameters, memory and operations of a training step, from shapes alone",
      run_plan);
  add_step_options(*plan, *p);
  plan->add_option("--schedule", p->schedule,
                   "JSON file to write the whole step to: buffers, values, nodes, steps");
}

}  // namespace graft
