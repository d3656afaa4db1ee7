// What the planner emits and the executor runs: every value has a place in memory, every step is
// written down.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "autograd/graph.h"
#include "kernels/kernel.h"

namespace graft {

struct Program {
  enum class Kind : uint8_t {
    arena,      // a value that lives for a while
    workspace,  // a kernel's scratch memory, in the arena during one step
    input,      // written by the caller before a run
    param,      // bytes of the parameter store
    derived,    // computed once from frozen parameters (packed weights), kept in the store
    source,     // a parameter that only derived values are computed from: no run touches it
    passing,    // on the way from there to a derived value: exists only while that is computed
  };
  struct Life {
    int32_t first = 0, last = 0;
  };
  struct Buffer {
    Kind kind = Kind::arena;
    size_t bytes = 0;
    size_t offset = 0;  // arena and workspace only
    std::string name;   // of the input, parameter or derived value
    // Steps between which it is alive (arena and workspace), in order: what is computed again has
    // more than one life.
    std::vector<Life> lives = {};
    bool alive_at(int32_t step) const;
  };
  enum class Action : uint8_t {
    run,        // a node, for the first time
    recompute,  // a node again
    free,       // a buffer
    write,      // copies a value into its parameter
  };
  struct Step {
    Action action = Action::run;
    int32_t node = -1;    // run, recompute; write: index of the assignment
    int32_t buffer = -1;  // free
    bool runs() const { return action == Action::run || action == Action::recompute; }
  };

  Graph graph;
  Backend backend = Backend::cpu;
  std::vector<Buffer> buffers;
  std::vector<std::vector<int32_t>> place;  // [node][output] -> buffer
  std::vector<int32_t> workspace;           // [node] -> buffer or -1
  std::vector<bool> once;  // [node]: computed when the program is bound, not in a run
  std::vector<Step> steps;

  size_t arena_bytes = 0;       // largest end of a buffer in the arena
  size_t persistent_bytes = 0;  // inputs, parameters and derived values that a run reads
  size_t live_bytes = 0;       // the most bytes alive at one step: no plan of this order needs less
  double flops = 0;            // of one run
  double recompute_flops = 0;  // of these, what nodes cost that run again
  size_t peak_bytes() const { return persistent_bytes + arena_bytes; }
};

// Bytes alive in the arena after each step, for plots.
std::vector<size_t> memory_timeline(const Program& program);

// One line per step with offsets; stable.
std::string to_text(const Program& program);

}  // namespace graft
