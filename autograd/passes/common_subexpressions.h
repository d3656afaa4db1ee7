// Computes equal things once.
#pragma once

#include "autograd/builder.h"

namespace graft {

// Nodes of one micro-batch with the same op, attributes and operands become one, the first of them;
// backward and update nodes may so read what forward computed. Results, assignments and marks
// follow, and the values of the graph stay the same, bit for bit. Left as they are: draws of random
// numbers, updates in place and what they overwrite, and equal work of different micro-batches
// (it would have to be kept from one to the next).
//
// A value that is read again later lives longer, so the pass saves work and may cost memory: it is
// for graphs that are about to be planned, by those who look at both plans.
Graph common_subexpressions(const Graph& graph, Delta* delta = nullptr);

}  // namespace graft
