// The runs of a step under a memory budget: as little as possible runs again.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/plan/segmentation.h"

namespace graft {

class BudgetPlanner {
 public:
  BudgetPlanner(const Graph& graph, const std::vector<int32_t>& order, Segmentation segments);

  // The scale of the budgets below, in bytes of what the segments keep and use: from the least that
  // can be done with to what avoids running anything again. Bytes of the arena grow with it, though
  // not alike.
  int64_t least() const { return least_; }
  int64_t most() const { return most_; }
  double step() const;
  // The runs under such a budget.
  std::vector<int32_t> runs(int64_t budget) const;

 private:
  struct Chain {
    std::vector<int32_t> kinds;
    ChainPlanner planner;
  };
  class Emitter;

  const Graph& graph_;
  const std::vector<int32_t>& order_;
  Segmentation cut_;
  std::vector<std::vector<SegmentOption>> options_;  // [kind]
  std::vector<Chain> chains_;                        // equal sections share one
  std::vector<size_t> chain_;                        // [section]
  int64_t least_ = 0, most_ = 0;
};

}  // namespace graft
