// Merging is folding: what depends on parameters alone is evaluated and becomes a parameter.
#pragma once

#include <string>
#include <vector>

#include "autograd/graph.h"
#include "autograd/param_store.h"

namespace graft {

struct Folded {
  Graph graph;
  ParamStore params;
  std::vector<std::string> merged;  // parameters that got a new value, under their old names
};

// Replaces every reparametrized parameter (Role::reparametrized) whose value depends on parameters
// alone by a leaf of the same name. Parameters that nothing reads any more are dropped. Throws
// GraphError naming the activation when an adapter's parameter remains: that method cannot be
// merged.
Folded fold_parameters(const Graph& graph, const ParamStore& params);

// The same refusal without any bytes: asked of shapes.
void expect_mergeable(const Graph& graph);

}  // namespace graft
