// Frozen weights in the form that the kernels like best: laid out once, when a program is bound,
// and read by every product of every step. The last pass before planning.
#pragma once

#include "autograd/graph.h"
#include "autograd/param_store.h"

namespace graft {

// Rewrites linear(x, W, bias) and linear_dx(dy, W) to read pack(W) wherever that pays, W being a
// frozen parameter or its transpose; lookups in the same W read the panels, too.
// Where `store` (or null) has such a parameter in bf16, it gets that type in the graph and its
// panels have it, too: half the bytes to read. So does a table in 16 bits that is only looked up:
// rows are widened after the lookup. The results are the same to the last bit.
Graph pack_weights(const Graph& graph, const ParamStore* store = nullptr);

}  // namespace graft
