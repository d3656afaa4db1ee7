#include "tests/support/kept_bytes.h"

#include <algorithm>

namespace graft::testing {

size_t kept_bytes(const Program& program) {
  const auto in_backward = [&](const Program::Step& step) {
    return step.action == Program::Action::run &&
           program.graph.node(step.node).phase == Phase::backward;
  };
  const auto first = static_cast<int32_t>(std::ranges::find_if(program.steps, in_backward) -
                                          program.steps.begin());
  size_t bytes = 0;
  for (const Program::Buffer& b : program.buffers) {
    if (b.alive_at(first) && b.alive_at(first - 1)) bytes += b.bytes;
  }
  return bytes;
}

}  // namespace graft::testing
