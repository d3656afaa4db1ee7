// Removes what no result needs.
#pragma once

#include <vector>

#include "autograd/builder.h"

namespace graft {

// For each node, whether a named output or an assignment depends on it.
std::vector<bool> live_nodes(const Graph& graph);

// The graph of the live nodes, with the parameters they read and those that are assigned; marks on
// dropped values go too.
Graph live_part(const Graph& graph, Delta* delta = nullptr);

// The end of a rewrite that leaves some nodes without readers.
Graph finish_live(Builder& b, Delta* delta = nullptr);

}  // namespace graft
