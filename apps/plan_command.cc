// graft plan: parameters, memory and operations of a training step, none of which is computed.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <vector>

#include "apps/plan_pictures.h"
#include "apps/step_command.h"
#include "autograd/memory_report.h"
#include "autograd/plan/schedule_file.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/units.h"

namespace graft {
namespace {

struct Plan : StepCommand {
  std::string schedule, timeline, curve;
};

// What a step is about, for titles and the first line.
std::string step_text(const Plan& o, const PlannedStep& s) {
  const std::string answer =
      s.target_length > 0 ? fmt::format(" answered by {}", s.target_length) : "";
  std::filesystem::path model = o.model;
  if (!model.has_filename()) model = model.parent_path();
  if (model.filename() == "config.json") model = model.parent_path();
  return fmt::format("{} on {}, {} x {} tokens{}", s.method->name, model.stem().string(), o.batch,
                     s.length, answer);
}

void write_schedule(const Plan& o, const PlannedStep& s) {
  Json file = schedule_json(*s.program);
  file["model"] = o.model;
  file["method"] = s.method->name;
  file["budget_bytes"] = s.memory.budget;
  file["recompute"] = name_of(s.memory.recompute);
  write_json_file(o.schedule, file);
}

// An .svg or a .json, whichever the name asks for.
void write_picture(const char* option, const std::string& file, const auto& svg, const auto& json) {
  if (file.ends_with(".svg")) return write_file(file, svg());
  if (file.ends_with(".json")) return write_json_file(file, json());
  throw UsageError("{} takes FILE.svg or FILE.json, not '{}'", option, file);
}

// Everything kept, and nothing that would be cheap to have again; from there on budgets, down to
// the smallest that can be met.
std::vector<Recomputed> curve_of(const Program& program) {
  constexpr size_t kBudgets = 10;
  std::vector<NamedOptions> ways = {{"none", {.recompute = Recompute::none}},
                                    {"cheap", {.recompute = Recompute::cheap}},
                                    {"least", kLeastMemory}};
  std::vector<Recomputed> points = recompute_curve(program, ways);
  const size_t least = points.front().peak_bytes,
               cheap = std::ranges::find(points, "cheap", &Recomputed::name)->peak_bytes;
  ways.clear();
  for (size_t k = 1; k < kBudgets && cheap > least; ++k) {
    // Closer to each other where the curve is steep.
    const size_t budget = least + (cheap - least) * k * k / (kBudgets * kBudgets);
    ways.push_back({"", {.recompute = Recompute::automatic, .budget = budget}});
  }
  std::ranges::copy(recompute_curve(program, ways), std::back_inserter(points));
  std::ranges::stable_sort(points, {}, &Recomputed::peak_bytes);
  return points;
}

void write_files(const Plan& o, const PlannedStep& s) {
  const Program& program = *s.program;
  if (!o.schedule.empty()) write_schedule(o, s);
  if (!o.timeline.empty()) {
    write_picture(
        "--timeline", o.timeline,
        [&] { return timeline_svg(program, "memory of a step: " + step_text(o, s)); },
        [&] { return timeline_json(program); });
  }
  if (!o.curve.empty()) {
    const std::vector<Recomputed> points = curve_of(program);
    write_picture(
        "--curve", o.curve,
        [&] { return curve_svg(points, "memory against recomputation: " + step_text(o, s)); },
        [&] { return curve_json(points); });
  }
}

struct Counts {
  int64_t total = 0, trainable = 0;
  size_t adapter_bytes = 0;
};

Counts counts_of(const PlannedStep& s) {
  Counts c{.trainable = peft::trainable_count(s.adapted.graph, false)};
  for (const Param& p : s.adapted.graph.params()) {
    const bool own = p.adapter.empty() && !peft::is_task_head(p.name);  // the pretrained model's
    if (own && is_float(p.type.dtype)) c.total += p.type.shape.elements();
    if (p.trainable) c.adapter_bytes += p.type.bytes();
  }
  return c;
}

Json plan_json(const Plan& o, const PlannedStep& s) {
  const Program& program = *s.program;
  const Counts counts = counts_of(s);
  const MemoryParts parts = memory_parts(program);
  Json bytes;
  for (int i = 0; i < kMemoryParts; ++i) {
    const auto part = static_cast<MemoryPart>(i);
    bytes[std::string(name_of(part))] = parts.of(part);
  }
  Json held = Json::array();
  for (const HeldAlike& h : alike_at_peak(program)) {
    if (h.part == MemoryPart::weights) continue;  // as many as the model has
    held.push_back(
        {{"part", name_of(h.part)}, {"place", h.place}, {"count", h.count}, {"bytes", h.bytes}});
  }
  const int32_t peak = peak_step(program);
  const int32_t node = program.steps[static_cast<size_t>(peak)].node;
  const int layer = layer_of(program.graph, node);
  return {{"method", s.method->name},
          {"task_kind", name_of(s.kind)},
          {"batch", o.batch},
          {"length", s.length},
          {"target_length", s.target_length},
          {"total_parameters", counts.total},
          {"trainable_parameters", counts.trainable},
          {"adapter_bytes", counts.adapter_bytes},
          {"max_grad_norm", o.step.max_grad_norm},
          {"optim", o.step.optim},
          {"peak_bytes", program.peak_bytes()},
          {"parts", bytes},
          {"peak",
           {{"step", peak},
            {"steps", program.steps.size()},
            {"phase", name_of(phase_at(program, peak))},
            {"layer", layer < 0 ? Json() : Json(layer)},
            {"node", describe_node(program.graph, node)},
            {"held", held}}},
          {"minimum_budget_bytes", plan(program.graph, kLeastMemory).peak_bytes()},
          {"flops_per_step", program.flops},
          {"forward_flops", forward_flops(program)},
          {"recompute", name_of(s.memory.recompute)},
          {"recompute_flops_per_step", program.recompute_flops}};
}

// Parts, and below those in the arena the places that they serve.
std::string table_of(const Program& program) {
  constexpr size_t kShown = 12;  // places of a part
  const MemoryParts parts = memory_parts(program);
  const std::vector<HeldAlike> alike = alike_at_peak(program);
  std::string text;
  for (int i = 0; i < kMemoryParts; ++i) {
    const auto part = static_cast<MemoryPart>(i);
    if (parts.of(part) == 0) continue;
    text += fmt::format("  {:17} {:12.2f} MB\n", name_of(part), mega(parts.of(part)));
    if (part < MemoryPart::gradients) continue;
    HeldAlike rest{part, "other places", 0, 0};
    size_t shown = 0;
    const auto line = [&](const HeldAlike& h) {
      text += fmt::format("    {:>4} x {:52} {:10.2f}\n", h.count, h.place, mega(h.bytes));
    };
    for (const HeldAlike& h : alike) {
      if (h.part != part) continue;
      if (shown++ < kShown) {
        line(h);
      } else {
        rest.count += h.count, rest.bytes += h.bytes;
      }
    }
    if (rest.count > 0) line(rest);
  }
  return text;
}

void run_plan(const Plan& o) {
  const PlannedStep s = plan_step(o);
  const Program& program = *s.program;
  expect_budget(program, s.memory);
  write_files(o, s);
  if (o.common.json) return print_json(plan_json(o, s));
  const Counts counts = counts_of(s);
  std::cout << fmt::format(
      "{}, {}: {} of {} parameters train ({:.3f} %)\n{:.2f} GFLOP a step, {:.2f} % of it computed "
      "again; {:.1f} MB at its peak, step {} of {}, {}\n",
      step_text(o, s), name_of(s.kind), counts.trainable, counts.total,
      100 * static_cast<double>(counts.trainable) / static_cast<double>(counts.total),
      program.flops / 1e9, 100 * program.recompute_flops / program.flops,
      mega(program.peak_bytes()), peak_step(program), program.steps.size(),
      describe_step(program, peak_step(program)));
  std::cout << table_of(program)
            << "largest values at the peak, blocks together:" << explain_peak(program) << "\n";
}

}  // namespace

void add_plan_command(CLI::App& app) {
  const auto [plan, p] = add_command<Plan>(
      app, "plan",
      "parameters, memory and operations of a training step, of which nothing is computed",
      run_plan);
  add_step_options(*plan, *p);
  plan->add_option("--schedule", p->schedule,
                   "JSON file to write the whole step to: buffers, values, nodes, steps");
  plan->add_option("--timeline", p->timeline,
                   "FILE.svg or FILE.json for the bytes alive from run to run");
  plan->add_option("--curve", p->curve,
                   "FILE.svg or FILE.json for the peak against what is computed again");
}

}  // namespace graft
