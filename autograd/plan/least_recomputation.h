// A step in so many bytes, with as little run again as that takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "autograd/plan/budget.h"

namespace graft {

// Operations that the time of what runs again is worth.
double cost_of_repeats(const Graph& graph, const std::vector<int32_t>& runs);

// What has to be known of the machine.
struct Machine {
  Scratch scratch;
  std::function<size_t(const std::vector<int32_t>& runs)> live_bytes;  // the most that are alive
};

// The graph and the order must outlive it.
class LeastRecomputation {
 public:
  LeastRecomputation(const Graph& graph, const std::vector<int32_t>& order, Machine machine);

  // The runs at the least predicted time of recomputation among those found whose live bytes are at
  // most `bytes`; where there are none, those that need the fewest.
  std::vector<int32_t> within(size_t bytes);

 private:
  void make_planners();

  const Graph& graph_;
  const std::vector<int32_t>& order_;
  Machine machine_;
  size_t live_without_;         // with nothing run again
  std::vector<int32_t> cheap_;  // the runs of Recompute::cheap
  // Made when they are first needed. What many segments read may be kept for all of them, or what
  // is computed from it in each.
  std::vector<BudgetPlanner> planners_;
};

}  // namespace graft
