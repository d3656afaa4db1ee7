// Several adapters in one model: their effects on the weights add up (task arithmetic, 2212.04089).
#pragma once

#include <span>

#include "autograd/passes/fold.h"
#include "peft/method.h"

namespace graft::peft {

struct WeightedAdapter {
  Graph adapted;
  ParamStore params;  // of that graph
  double weight = 1;
};

struct Combination {
  Graph graph;
  ParamStore params;
};

// The base with W + sum_k w_k (W_k - W) in place of every parameter W that an adapter changes, W_k
// being its value under adapter k alone. What the base does not have (a task head, all its layers
// where one of them is another) comes from the first adapter that brings it. fold_parameters makes
// it a plain model. Throws GraphError where an adapter cannot be merged.
Combination combine(const Graph& base, const ParamStore& base_params,
                    std::span<const WeightedAdapter> adapters);

}  // namespace graft::peft
