#include "autograd/program.h"

#include <algorithm>
#include <set>

#include "autograd/op.h"

namespace graft {

bool Program::Buffer::alive_at(int32_t step) const {
  return std::ranges::any_of(
      lives, [step](const Life& life) { return life.first <= step && step <= life.last; });
}

std::vector<size_t> memory_timeline(const Program& program) {
  std::vector<size_t> timeline;
  std::vector<bool> alive(program.buffers.size(), false);
  size_t bytes = 0;
  for (const Program::Step& step : program.steps) {
    if (step.action == Program::Action::run || step.action == Program::Action::recompute) {
      auto start = [&](int32_t b) {
        const Program::Buffer& buffer = program.buffers[static_cast<size_t>(b)];
        const bool arena =
            buffer.kind == Program::Kind::arena || buffer.kind == Program::Kind::workspace;
        if (arena && !alive[static_cast<size_t>(b)]) {
          alive[static_cast<size_t>(b)] = true;
          bytes += buffer.bytes;
        }
      };
      for (int32_t b : program.place[static_cast<size_t>(step.node)]) start(b);
      if (const int32_t b = program.workspace[static_cast<size_t>(step.node)]; b >= 0) start(b);
    } else if (step.action == Program::Action::free && alive[static_cast<size_t>(step.buffer)]) {
      alive[static_cast<size_t>(step.buffer)] = false;
      timeline.push_back(bytes);
      bytes -= program.buffers[static_cast<size_t>(step.buffer)].bytes;
      continue;
    }
    timeline.push_back(bytes);
  }
  return timeline;
}

bool is_weight(const Program& program, const Program::Buffer& buffer) {
  if (buffer.kind == Program::Kind::derived) return true;
  if (buffer.kind != Program::Kind::param) return false;
  const Param& p = program.graph.param(buffer.name);
  return p.kind == Param::Kind::weight && p.adapter.empty();
}

MemoryParts memory_parts(const Program& program) {
  MemoryParts parts;
  std::set<std::string> counted;
  for (const Program::Buffer& b : program.buffers) {
    if (b.kind != Program::Kind::input && b.kind != Program::Kind::param &&
        b.kind != Program::Kind::derived)
      continue;
    if (!counted.insert(b.name).second) continue;
    if (b.kind == Program::Kind::input) {
      parts.inputs += b.bytes;
    } else if (const Param* p = program.graph.find_param(b.name);
               p != nullptr && p->kind == Param::Kind::state) {
      parts.optimizer += b.bytes;
    } else if (p != nullptr && !p->adapter.empty()) {
      parts.adapters += b.bytes;
    } else {
      parts.weights += b.bytes;
    }
  }
  // Of the arena: what is alive at the peak.
  std::vector<int32_t> kind(program.buffers.size(), 0);  // 1: gradient of a parameter
  for (const Node& n : program.graph.nodes()) {
    if (n.phase != Phase::update) continue;
    for (const Value v : n.inputs) {
      if (v.valid() && program.graph.node(v.node).phase == Phase::backward) {
        kind[static_cast<size_t>(
            program.place[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)])] = 1;
      }
    }
  }
  const std::vector<size_t> timeline = memory_timeline(program);
  const auto peak = static_cast<int32_t>(std::ranges::max_element(timeline) - timeline.begin());
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const Program::Buffer& b = program.buffers[i];
    if (!b.alive_at(peak)) continue;
    (b.kind == Program::Kind::workspace ? parts.workspace
     : kind[i] == 1                     ? parts.gradients
                                        : parts.activations) += b.bytes;
  }
  return parts;
}

std::string explain_peak(const Program& program, size_t lines) {
  const std::vector<size_t> timeline = memory_timeline(program);
  const auto peak = static_cast<int32_t>(std::ranges::max_element(timeline) - timeline.begin());
  std::vector<std::pair<size_t, std::string>> alive;
  std::vector<bool> seen(program.buffers.size(), false);
  for (size_t i = 0; i < program.graph.nodes().size(); ++i) {
    auto add = [&](int32_t b, const std::string& what) {
      if (b < 0 || seen[static_cast<size_t>(b)]) return;
      const Program::Buffer& buffer = program.buffers[static_cast<size_t>(b)];
      if (!buffer.alive_at(peak)) return;
      seen[static_cast<size_t>(b)] = true;
      alive.emplace_back(buffer.bytes, what);
    };
    const std::string node = describe_node(program.graph, static_cast<int32_t>(i));
    for (int32_t b : program.place[i]) add(b, node);
    add(program.workspace[i], "workspace of " + node);
  }
  std::ranges::stable_sort(alive, std::greater{}, [](const auto& a) { return a.first; });
  std::string text;
  for (size_t i = 0; i < std::min(lines, alive.size()); ++i) {
    text += fmt::format("\n  {:12} bytes  {}", alive[i].first, alive[i].second);
  }
  return text;
}

void expect_budget(const Program& program, size_t budget) {
  if (budget == 0 || program.peak_bytes() <= budget) return;
  throw BudgetError(
      "the budget is {} bytes, the step needs {}: {} for parameters and inputs, {} for what is "
      "computed; give at least {}, or a smaller batch. The largest values at the peak:{}",
      budget, program.peak_bytes(), program.persistent_bytes, program.arena_bytes,
      program.peak_bytes(), explain_peak(program));
}

std::string to_text(const Program& program) {
  std::string text;
  auto place = [&](int32_t b) {
    const Program::Buffer& buffer = program.buffers[static_cast<size_t>(b)];
    if (buffer.kind == Program::Kind::arena || buffer.kind == Program::Kind::workspace) {
      return fmt::format("[{}, {})", buffer.offset, buffer.offset + buffer.bytes);
    }
    return buffer.name;
  };
  for (size_t i = 0; i < program.once.size(); ++i) {
    if (program.once[i])
      text += fmt::format("once {}\n", describe_node(program.graph, static_cast<int32_t>(i)));
  }
  for (const Program::Step& step : program.steps) {
    switch (step.action) {
      case Program::Action::run:
      case Program::Action::recompute: {
        text += step.action == Program::Action::run ? "run " : "recompute ";
        text += describe_node(program.graph, step.node);
        for (int32_t b : program.place[static_cast<size_t>(step.node)]) text += " -> " + place(b);
        if (const int32_t w = program.workspace[static_cast<size_t>(step.node)]; w >= 0)
          text += " scratch " + place(w);
        break;
      }
      case Program::Action::free:
        text += "free " + place(step.buffer);
        break;
      case Program::Action::write:
        text += "write " + program.graph.assignments()[static_cast<size_t>(step.node)].first;
        break;
    }
    text += '\n';
  }
  text += fmt::format("arena {} bytes (alive at most {}), persistent {} bytes\n",
                      program.arena_bytes, program.live_bytes, program.persistent_bytes);
  return text;
}

}  // namespace graft
