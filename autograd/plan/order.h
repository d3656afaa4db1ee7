// Which nodes a program runs, and in which order.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/graph.h"
#include "kernels/kernel.h"

namespace graft {

bool is_leaf(const Node& node);  // an input or a parameter

// [node]: live nodes that depend on frozen parameters alone. They are computed once and kept:
// packed weights, transposed tables. Constants are cheaper to refill than to keep.
std::vector<bool> computed_once(const Graph& graph, const std::vector<bool>& live);

// The live nodes that a run computes, in the graph's own order, except that an update in place
// waits for everyone who reads the old value. Throws GraphError where two updates wait for each
// other.
std::vector<int32_t> execution_order(const Graph& graph, const std::vector<bool>& live,
                                     const std::vector<bool>& once, Backend backend = Backend::cpu);

}  // namespace graft
