// Small random graphs over the table of ops, for fuzzing what rewrites graphs and what runs them.
#pragma once

#include <cstdint>

#include "autograd/evaluate.h"
#include "autograd/graph.h"
#include "autograd/param_store.h"

namespace graft::testing {

struct RandomGraph {
  Graph model;  // named outputs of any shape; some weights reparametrized by an adapter
  // The loss on the model's outputs, its gradients, their accumulation over one or two
  // micro-batches and an optimizer's updates.
  Graph step;
  Inputs model_inputs, step_inputs;
  ParamStore params;
};

// The same graph for the same seed. Values stay moderate, and what has no neighborhood of equal
// meaning (the index of a maximum, a sign) is left out, so that rounding stays rounding.
RandomGraph random_graph(uint64_t seed);

}  // namespace graft::testing
