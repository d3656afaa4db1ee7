#include "apps/plan_pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "autograd/memory_report.h"
#include "autograd/op.h"
#include "core/units.h"
#include "train/plot.h"

namespace graft {
namespace {

constexpr const char *kPersistentColor = "#c9d6e3", *kArenaColor = "#e9b872",
                     *kLineColor = "#8a5a12", *kCurveColor = "#2c5d8f";

// A run of a node: where in the step and in the model, and what is alive meanwhile.
struct Moment {
  Phase phase;
  const Node* node;
  int layer;
  size_t bytes;
};

std::vector<Moment> moments_of(const Program& program) {
  const std::vector<size_t> timeline = memory_timeline(program);
  std::vector<Moment> moments;
  for (size_t i = 0; i < program.steps.size(); ++i) {
    const Program::Step& s = program.steps[i];
    if (!s.runs()) continue;
    const Node& n = program.graph.node(s.node);
    const int layer = n.phase == Phase::update ? -1 : layer_of(program.graph, s.node);
    moments.push_back({phase_at(program, static_cast<int32_t>(i)), &n, layer,
                       program.persistent_bytes + timeline[i]});
  }
  return moments;
}

// "encoder" of "encoder.block.0.layer".
std::string stack_of(const Node& n) { return n.scope.substr(0, n.scope.find('.')); }

// Calls f(first, last) for stretches of moments with the same key; a key below 0 goes with what is
// before it.
template <typename Key, typename F>
void for_stretches(const std::vector<Moment>& moments, Key key, F f) {
  size_t first = 0;
  auto now = key(moments[0]);
  for (size_t i = 1; i <= moments.size(); ++i) {
    const bool end = i == moments.size();
    if (!end && (key(moments[i]) == now || key(moments[i]).first < 0)) continue;
    if (now.first >= 0) f(first, i);
    if (end) break;
    first = i;
    now = key(moments[i]);
  }
}

void add_blocks(Plot& plot, const std::vector<Moment>& moments) {
  std::set<std::string> stacks;
  for (const Moment& m : moments) {
    if (m.layer >= 0) stacks.insert(stack_of(*m.node));
  }
  for_stretches(
      moments,
      [](const Moment& m) {
        return std::pair(m.layer < 0 ? -1 : m.layer * 2 + (m.phase == Phase::backward),
                         m.layer < 0 ? std::string() : stack_of(*m.node));
      },
      [&](size_t first, size_t last) {
        const Moment& m = moments[first];
        const std::string stack = stacks.size() > 1 ? stack_of(*m.node).substr(0, 1) : "";
        plot.add_tick(fmt::format("{}{}", stack, m.layer), static_cast<double>(first),
                      static_cast<double>(last));
      });
}

std::vector<std::string> lines_of_peak(const Program& program) {
  const int32_t peak = peak_step(program);
  const Node& n = program.graph.node(program.steps[static_cast<size_t>(peak)].node);
  std::vector<std::string> lines = {fmt::format("peak {:.1f} MB at {}", mega(program.peak_bytes()),
                                                n.scope.empty() ? n.op->name : n.scope)};
  const MemoryParts parts = memory_parts(program);
  const std::vector<HeldAlike> alike = alike_at_peak(program);
  for (int i = 0; i < kMemoryParts; ++i) {
    const auto part = static_cast<MemoryPart>(i);
    if (parts.of(part) == 0) continue;
    lines.push_back(fmt::format("{} {:.1f} MB", name_of(part), mega(parts.of(part))));
    if (part != MemoryPart::kept) continue;
    constexpr size_t kShown = 8;
    size_t shown = 0;
    for (const HeldAlike& h : alike) {
      if (h.part == part && shown++ < kShown)
        lines.push_back(fmt::format("    {} x {} {:.1f}", h.count, h.place, mega(h.bytes)));
    }
    if (shown > kShown) lines.push_back(fmt::format("    and {} more", shown - kShown));
  }
  return lines;
}

}  // namespace

Json timeline_json(const Program& program) {
  Json runs = Json::array();
  for (const Moment& m : moments_of(program)) {
    runs.push_back({{"phase", name_of(m.phase)},
                    {"layer", m.layer < 0 ? Json() : Json(m.layer)},
                    {"op", m.node->op->name},
                    {"path", m.node->scope},
                    {"bytes", m.bytes}});
  }
  return {{"persistent_bytes", program.persistent_bytes},
          {"arena_bytes", program.arena_bytes},
          {"peak_bytes", program.peak_bytes()},
          {"runs", runs}};
}

std::string timeline_svg(const Program& program, const std::string& title) {
  const std::vector<Moment> moments = moments_of(program);
  Plot plot(title, "blocks of the model, in the order in which they run", "MB");
  plot.resize(1200, 430);
  if (moments.empty()) return plot.file();
  std::vector<std::pair<double, double>> alive;
  for (const Moment& m : moments)
    alive.emplace_back(static_cast<double>(alive.size()), mega(m.bytes));
  alive.emplace_back(static_cast<double>(alive.size()), alive.back().second);
  const double end = static_cast<double>(moments.size());
  const double base = mega(program.persistent_bytes), peak = mega(program.peak_bytes());
  plot.add_area("alive in the arena", kArenaColor, alive);
  plot.add_area("weights, adapters, optimizer, inputs", kPersistentColor, {{0, base}, {end, base}});
  plot.add(0, "", kLineColor, alive);
  plot.add(1, "planned peak", "#c0392b", {{0, peak}, {end, peak}});
  for_stretches(
      moments, [](const Moment& m) { return std::pair(static_cast<int>(m.phase), 0); },
      [&](size_t first, size_t last) {
        plot.add_band(std::string(name_of(moments[first].phase)), static_cast<double>(first),
                      static_cast<double>(last));
      });
  add_blocks(plot, moments);
  const auto at = std::ranges::max_element(moments, {}, &Moment::bytes);
  plot.add_note(static_cast<double>(at - moments.begin()), mega(at->bytes), lines_of_peak(program));
  return plot.file();
}

std::vector<Recomputed> recompute_curve(const Program& program,
                                        std::span<const NamedOptions> ways) {
  std::vector<Recomputed> points;
  for (const NamedOptions& way : ways) {
    const Program p = plan(program.graph, way.options);
    points.push_back({way.name, p.peak_bytes(), p.recompute_flops, forward_flops(p)});
  }
  std::ranges::stable_sort(points, {}, &Recomputed::peak_bytes);
  return points;
}

Json curve_json(std::span<const Recomputed> points) {
  Json list = Json::array();
  for (const Recomputed& p : points) {
    list.push_back({{"recompute", p.name},
                    {"peak_bytes", p.peak_bytes},
                    {"recompute_flops", p.recompute_flops},
                    {"forward_flops", p.forward_flops},
                    {"share_of_forward", p.share()}});
  }
  return {{"points", list}};
}

std::string curve_svg(std::span<const Recomputed> points, const std::string& title) {
  Plot plot(title, "MB at the peak of a step", "computed again, % of forward");
  plot.resize(760, 400);
  std::vector<std::pair<double, double>> line;
  for (const Recomputed& p : points) line.emplace_back(mega(p.peak_bytes), 100 * p.share());
  plot.add(0, "", kCurveColor, line);
  for (const Recomputed& p : points)
    plot.add(1, p.name, kCurveColor, {{mega(p.peak_bytes), 100 * p.share()}});
  return plot.file();
}

}  // namespace graft
