// Models that begin from nothing.
#pragma once

#include "autograd/graph.h"
#include "models/config.h"

namespace graft {

// The same graph with an initializer for every parameter that otherwise comes from a file, drawn as
// transformers draws it: products and tables N(0, initializer_range), gains of norms 1, biases 0,
// and what a family does otherwise.
Graph with_fresh_weights(const Graph& model, const ModelConfig& config);

}  // namespace graft
