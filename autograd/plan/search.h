// All schedules of a small graph.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "autograd/graph.h"
#include "autograd/plan/scratch.h"

namespace graft {

// The runs with the cheapest recomputation there is within so many live bytes, found by Dijkstra's
// algorithm over (how far the order has come, what is alive); nothing stands in the place of
// anything else. Nothing where no schedule fits, or where the graph is too large to try them all.
std::optional<std::vector<int32_t>> search_schedules(const Graph& graph,
                                                     const std::vector<int32_t>& order,
                                                     const Scratch& scratch, size_t bytes);

}  // namespace graft
