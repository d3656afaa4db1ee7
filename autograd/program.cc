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
    if (step.runs()) {
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
