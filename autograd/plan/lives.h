// When values are alive in a sequence of runs.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/program.h"

namespace graft {

// From the run that writes a value to its last reader, positions in the sequence.
using Life = Program::Life;

// The lives of all values: one for each run of their node, in order. A view belongs to the life of
// what it looks at. Results of the graph live on to the end, position runs.size().
class Lives {
 public:
  Lives(const Graph& graph, const std::vector<int32_t>& runs);

  const std::vector<Life>& of(int32_t node, size_t output) const {
    return of_[static_cast<size_t>(node)][output];
  }
  // Of a value that no run writes: the position of its last reader, -1 where it has none.
  int32_t last_read(int32_t node, size_t output) const {
    return last_read_[static_cast<size_t>(node)][output];
  }

 private:
  std::vector<std::vector<std::vector<Life>>> of_;  // [node][output]
  std::vector<std::vector<int32_t>> last_read_;
};

}  // namespace graft
