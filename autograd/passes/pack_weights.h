// Frozen weights in the form that the kernels like best: laid out once, when a program is bound,
// and read by every product of every step. The last pass before planning.
#pragma once

#include "autograd/graph.h"

namespace graft {

// Rewrites linear(x, W, bias) and linear_dx(dy, W) to read pack(W) wherever that pays, W being a
// frozen parameter or its transpose. The results are the same to the last bit.
Graph pack_weights(const Graph& graph);

}  // namespace graft
