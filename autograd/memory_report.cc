#include "autograd/memory_report.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "autograd/op.h"
#include "autograd/plan/layout.h"
#include "autograd/plan/order.h"
#include "autograd/plan/sources.h"
#include "core/error.h"
#include "core/units.h"

namespace graft {
namespace {

std::vector<std::string_view> components(std::string_view scope) {
  std::vector<std::string_view> all;
  while (!scope.empty()) {
    const size_t dot = scope.find('.');
    all.push_back(scope.substr(0, dot));
    scope = dot == std::string_view::npos ? "" : scope.substr(dot + 1);
  }
  return all;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "model.layers.3.mlp" as "model.layers.*.mlp".
std::string of_every_block(std::string_view scope) {
  std::string text;
  for (const std::string_view c : components(scope)) {
    if (!text.empty()) text += '.';
    text += is_number(c) ? "*" : c;
  }
  return text;
}

// Names values by the roles that models mark, and what is computed from them without products by
// theirs.
class Places {
 public:
  explicit Places(const Program& program) : p_(program), g_(program.graph) {
    for (const Mark& m : g_.marks()) role_of_.emplace(base_of(g_, m.value), m.role);
  }

  std::string of(Value v) const {
    v = base_of(g_, v);
    std::string beside;  // a mask or a sum that an op gives beside its result
    while (true) {
      const Node& n = g_.node(v.node);
      if (v.output > 0 && beside.empty()) beside = " (beside it)";
      v.output = 0;
      if (const auto it = role_of_.find(v); it != role_of_.end())
        return std::string(name_of(it->second)) + beside;
      if (n.op->name == "layer_norm" || n.op->name == "rms_norm") return "norm" + beside;
      const Value from = n.op->costly || n.phase != Phase::forward ? Value{} : source_of(n);
      if (!from.valid()) {
        const std::string scope = of_every_block(n.scope);
        return fmt::format("{}{}{}{}", scope, scope.empty() ? "" : " ", n.op->name, beside);
      }
      v = base_of(g_, from);
    }
  }

 private:
  // What was computed in a run and has a place of its own.
  Value source_of(const Node& n) const {
    for (const Value v : n.inputs) {
      if (!v.valid()) continue;
      const Value from = base_of(g_, v);
      if (!is_leaf(g_.node(from.node)) && !p_.once[static_cast<size_t>(from.node)]) return from;
    }
    return {};
  }

  const Program& p_;
  const Graph& g_;
  std::map<Value, Role> role_of_;
};

// What stands in each buffer of the arena as a step runs.
class Contents {
 public:
  Contents(const Program& program, int32_t step)
      : p_(program), g_(program.graph), step_(step), places_(program) {
    find_gradients();
    of_.resize(p_.buffers.size());
    for (int32_t i = 0; i <= step; ++i) {
      const Program::Step& s = p_.steps[static_cast<size_t>(i)];
      if (s.runs()) write(s);
    }
    find_read_by_backward();
  }

  Held held(int32_t buffer) const {
    const auto b = static_cast<size_t>(buffer);
    const Inside& inside = of_[b];
    Held h{part_of(b), p_.buffers[b].bytes, {}, inside.value, {}};
    if (!inside.value.valid()) return h;
    h.place = inside.parameter.empty() ? places_.of(inside.value)
                                       : of_every_block(inside.parameter) + " gradient";
    return h;
  }

 private:
  struct Inside {
    Value value;
    bool again = false, read_by_backward = false;
    std::string parameter;  // whose gradient it is
  };

  int32_t buffer_of(Value v) const {
    return p_.place[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
  }

  void write(const Program::Step& s) {
    const Node& n = g_.node(s.node);
    if (is_view(n)) return;
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const Value v{s.node, static_cast<int32_t>(k)};
      const int32_t b = buffer_of(v);
      if (b < 0) continue;
      const auto gradient = gradient_of_.find(v);
      of_[static_cast<size_t>(b)] = {
          v, s.action == Program::Action::recompute, false,
          gradient == gradient_of_.end() ? std::string() : gradient->second};
    }
    if (const int32_t w = p_.workspace[static_cast<size_t>(s.node)]; w >= 0)
      of_[static_cast<size_t>(w)] = {{s.node, 0}};
  }

  // Values of backward that updates read, and the sums over micro-batches that lead there.
  void find_gradients() {
    const auto add = [&](Value v, const std::string& parameter) {
      if (!v.valid()) return;
      v = base_of(g_, v);
      if (g_.node(v.node).phase == Phase::backward) gradient_of_.emplace(v, parameter);
    };
    for (size_t i = g_.nodes().size(); i-- > 0;) {
      const Node& n = g_.nodes()[i];
      if (n.phase == Phase::update && n.op->updates[0] >= 0) {
        const Node& leaf = g_.node(n.inputs[static_cast<size_t>(n.op->updates[0])].node);
        if (leaf.op->name != "param") continue;
        for (const Value v : n.inputs) add(v, leaf.attrs.as<NameAttrs>().name);
      } else if (n.phase == Phase::update) {
        for (const Value v : n.inputs) add(v, n.scope);
      } else if (const auto it = gradient_of_.find({static_cast<int32_t>(i), 0});
                 it != gradient_of_.end() && n.op->name == "add") {
        const std::string parameter = it->second;
        for (const Value v : n.inputs) add(v, parameter);
      }
    }
  }

  // Of what stands there at the step: whether a node of a later phase is still to read it.
  void find_read_by_backward() {
    std::vector<bool> over(p_.buffers.size(), false);
    for (auto i = static_cast<size_t>(step_); i < p_.steps.size(); ++i) {
      const Program::Step& s = p_.steps[i];
      if (s.action == Program::Action::free) over[static_cast<size_t>(s.buffer)] = true;
      if (!s.runs()) continue;
      const Node& n = g_.node(s.node);
      for (const Value v : n.inputs) {
        const int32_t b = v.valid() ? buffer_of(v) : -1;
        if (b >= 0 && !over[static_cast<size_t>(b)] && n.phase != Phase::forward)
          of_[static_cast<size_t>(b)].read_by_backward = true;
      }
      if (static_cast<int32_t>(i) == step_ || is_view(n)) continue;
      for (const int32_t b : p_.place[static_cast<size_t>(s.node)]) {
        if (b >= 0) over[static_cast<size_t>(b)] = true;
      }
    }
  }

  MemoryPart part_of(size_t b) const {
    const Inside& inside = of_[b];
    if (p_.buffers[b].kind == Program::Kind::workspace) return MemoryPart::workspace;
    if (!inside.value.valid()) return MemoryPart::transient;
    if (!inside.parameter.empty()) return MemoryPart::gradients;
    if (g_.node(inside.value.node).phase != Phase::forward) return MemoryPart::transient;
    if (inside.again) return MemoryPart::recomputed;
    return inside.read_by_backward ? MemoryPart::kept : MemoryPart::transient;
  }

  const Program& p_;
  const Graph& g_;
  int32_t step_;
  Places places_;
  std::map<Value, std::string> gradient_of_;
  std::vector<Inside> of_;  // [buffer]
};

MemoryPart part_of_persistent(const Program& p, const Program::Buffer& b) {
  if (b.kind == Program::Kind::input) return MemoryPart::inputs;
  if (is_weight(p, b)) return MemoryPart::weights;
  return p.graph.param(b.name).kind == Param::Kind::state ? MemoryPart::optimizer
                                                          : MemoryPart::adapters;
}

// Without attributes and operands.
std::string brief(const Graph& graph, Value v) {
  const Node& n = graph.node(v.node);
  return fmt::format("%{} = {} : {}{}{}", v.node, n.op->name, graph.type(v).str(),
                     n.scope.empty() ? "" : "  @ ", n.scope);
}

}  // namespace

std::string_view name_of(MemoryPart part) {
  static constexpr std::string_view kNames[kMemoryParts] = {
      "weights",          "adapters",   "optimizer", "inputs",    "gradients",
      "kept_activations", "recomputed", "transient", "workspace", "gaps"};
  return kNames[static_cast<size_t>(part)];
}

bool is_weight(const Program& program, const Program::Buffer& buffer) {
  if (buffer.kind == Program::Kind::derived) return true;
  if (buffer.kind != Program::Kind::param) return false;
  const Param& p = program.graph.param(buffer.name);
  return p.kind == Param::Kind::weight && p.adapter.empty();
}

int32_t peak_step(const Program& program) {
  const std::vector<size_t> timeline = memory_timeline(program);
  return static_cast<int32_t>(std::ranges::max_element(timeline) - timeline.begin());
}

std::vector<Held> held_at(const Program& program, int32_t step) {
  std::vector<Held> held;
  if (program.steps.empty()) return held;
  const Contents contents(program, step);
  std::set<std::string> counted;
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const Program::Buffer& b = program.buffers[i];
    if (in_arena(b)) {
      if (b.alive_at(step)) held.push_back(contents.held(static_cast<int32_t>(i)));
    } else if (b.kind != Program::Kind::source && b.kind != Program::Kind::passing &&
               counted.insert(b.name).second) {
      held.push_back({part_of_persistent(program, b), b.bytes, b.name, {}, of_every_block(b.name)});
    }
  }
  return held;
}

int layer_of(const Graph& graph, int32_t node) {
  for (const std::string_view c : components(graph.node(node).scope)) {
    if (is_number(c) && c.size() < 6) return std::stoi(std::string(c));
  }
  return -1;
}

Phase phase_at(const Program& program, int32_t step) {
  const Program::Step& s = program.steps[static_cast<size_t>(step)];
  if (s.action == Program::Action::recompute) return Phase::backward;
  return s.runs() ? program.graph.node(s.node).phase : Phase::update;
}

std::string describe_step(const Program& program, int32_t step) {
  const Program::Step& s = program.steps[static_cast<size_t>(step)];
  if (!s.runs()) return "after the last update";
  const int layer = layer_of(program.graph, s.node);
  return fmt::format("{}{}{}: {}", name_of(phase_at(program, step)),
                     layer < 0 ? "" : fmt::format(" of layer {}", layer),
                     s.action == Program::Action::recompute ? " (again)" : "",
                     brief(program.graph, {s.node, 0}));
}

size_t MemoryParts::of(MemoryPart part) const {
  const size_t all[kMemoryParts] = {weights,     adapters,   optimizer, inputs,    gradients,
                                    activations, recomputed, transient, workspace, gaps};
  return all[static_cast<size_t>(part)];
}

MemoryParts memory_parts(const Program& program) {
  MemoryParts parts;
  size_t* const all[kMemoryParts] = {
      &parts.weights,     &parts.adapters,   &parts.optimizer, &parts.inputs,    &parts.gradients,
      &parts.activations, &parts.recomputed, &parts.transient, &parts.workspace, &parts.gaps};
  parts.gaps = program.peak_bytes();
  for (const Held& h : held_at(program, peak_step(program))) {
    *all[static_cast<size_t>(h.part)] += h.bytes;
    parts.gaps -= h.bytes;
  }
  return parts;
}

std::vector<HeldAlike> alike_at_peak(const Program& program) {
  std::map<std::pair<MemoryPart, std::string>, HeldAlike> groups;
  for (const Held& h : held_at(program, peak_step(program))) {
    HeldAlike& g =
        groups.try_emplace({h.part, h.place}, HeldAlike{h.part, h.place, 0, 0}).first->second;
    ++g.count;
    g.bytes += h.bytes;
  }
  std::vector<HeldAlike> all;
  for (auto& [key, g] : groups) all.push_back(std::move(g));
  std::ranges::stable_sort(all, [](const HeldAlike& a, const HeldAlike& b) {
    return a.part != b.part ? a.part < b.part : a.bytes > b.bytes;
  });
  return all;
}

double forward_flops(const Program& program) {
  double flops = 0;
  for (const Program::Step& s : program.steps) {
    if (s.action == Program::Action::run && program.graph.node(s.node).phase == Phase::forward)
      flops += cost_of(program.graph, program.graph.node(s.node)).flops;
  }
  return flops;
}

std::string explain_peak(const Program& program, size_t lines) {
  // Values of one size and place, block after block.
  struct Alike {
    Held first;
    size_t count = 0;
    int lowest = -1, highest = -1;  // block
  };
  std::vector<Alike> all;
  std::map<std::tuple<MemoryPart, std::string, size_t>, size_t> index;
  for (Held& h : held_at(program, peak_step(program))) {
    if (!h.value.valid()) continue;
    const auto [at, fresh] = index.try_emplace({h.part, h.place, h.bytes}, all.size());
    const int layer = layer_of(program.graph, h.value.node);
    if (fresh) all.push_back({std::move(h), 0, layer, layer});
    Alike& a = all[at->second];
    ++a.count;
    a.lowest = std::min(a.lowest, layer);
    a.highest = std::max(a.highest, layer);
  }
  std::ranges::stable_sort(all, std::greater{},
                           [](const Alike& a) { return a.count * a.first.bytes; });
  std::string text;
  for (size_t i = 0; i < std::min(lines, all.size()); ++i) {
    const Alike& a = all[i];
    std::string where;
    if (a.lowest >= 0) where = fmt::format(" of layer {}", a.lowest);
    if (a.highest > a.lowest) where = fmt::format(" of layers {} to {}", a.lowest, a.highest);
    text += fmt::format("\n  {:4} x {:12} bytes  {}, {}{}: {}", a.count, a.first.bytes,
                        name_of(a.first.part), a.first.place, where,
                        brief(program.graph, a.first.value));
  }
  return text;
}

void expect_budget(const Program& program, const PlanOptions& options) {
  const size_t needed = program.peak_bytes();
  if (options.budget == 0 || needed <= options.budget) return;
  const MemoryParts parts = memory_parts(program);
  std::string table;
  for (int i = 0; i < kMemoryParts; ++i) {
    const auto part = static_cast<MemoryPart>(i);
    if (parts.of(part) > 0)
      table += fmt::format("\n  {:17} {:12.2f} MB", name_of(part), mega(parts.of(part)));
  }
  const bool automatic = options.recompute == Recompute::automatic;
  const size_t least =
      automatic ? needed : std::min(needed, plan(program.graph, kLeastMemory).peak_bytes());
  const std::string_view how = least < needed ? " and --recompute auto" : "";
  throw BudgetError(
      "the budget is {} bytes, the step needs {}, {:.1f} MB more; give at least {}{}, or a smaller "
      "batch or length. Most is in memory at step {} "
      "of {}, {}{}\nThe largest values there, blocks together:{}",
      options.budget, needed, mega(needed - options.budget), least, how, peak_step(program),
      program.steps.size(), describe_step(program, peak_step(program)), table,
      explain_peak(program));
}

}  // namespace graft
