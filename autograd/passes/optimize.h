// Everything that makes a finished graph cheaper to run without changing what it computes. Called
// once, between differentiation and planning, for every program: steps, evaluation, embedding.
#pragma once

#include "autograd/graph.h"
#include "autograd/param_store.h"

namespace graft {

// Dead code out, equal nodes made one (common_subexpressions.h), products fused with their
// surroundings (fuse_products.h), frozen weights packed (pack_weights.h). All inputs stay. Results
// differ by rounding only. Given the store that the program will run on, frozen weights keep the
// type that they are stored in.
Graph optimize(const Graph& graph, const ParamStore* store = nullptr);

}  // namespace graft
