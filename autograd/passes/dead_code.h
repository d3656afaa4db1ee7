// Removes what no result needs.
#pragma once

#include <vector>

#include "autograd/builder.h"

namespace graft {

// For each node, whether a named output or an assignment depends on it.
std::vector<bool> live_nodes(const Graph& graph);

// Inputs that nothing reads: where they stay, whoever fills inputs by name still finds all of them.
enum class UnusedInputs : uint8_t { drop, keep };

// The graph of the live nodes, with the parameters they read and those that are assigned; marks on
// dropped values go too.
Graph live_part(const Graph& graph, Delta* delta = nullptr,
                UnusedInputs unused = UnusedInputs::drop);

// The end of a rewrite that leaves some nodes without readers.
Graph finish_live(Builder& b, Delta* delta = nullptr, UnusedInputs unused = UnusedInputs::drop);

}  // namespace graft
