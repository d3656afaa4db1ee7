// An order in which values die early.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/graph.h"
#include "kernels/kernel.h"

namespace graft {

// The same nodes, forward as they stand. A node of backward moves in front of others where fewer
// bytes are alive meanwhile: a weight's gradient before that of the layer's input, where it is the
// last to read the input; the sum of two micro-batches' gradients as soon as there are both. What
// the optimizer updates is updated as soon as its gradient is there and nobody asks for the old
// value any more, be it to compute a value of forward again that backward reads.
std::vector<int32_t> free_early(const Graph& graph, const std::vector<int32_t>& order,
                                Backend backend);

}  // namespace graft
