// The meaning of a graph: one node after another, no plan. The debugger, and the oracle of the
// planned executor.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "autograd/graph.h"
#include "autograd/param_store.h"
#include "kernels/kernel.h"

namespace graft {

using Inputs = std::map<std::string, Tensor>;

struct Evaluation {
  std::map<std::string, Tensor> outputs;
  std::map<std::string, Tensor> assigned;  // new values of parameters; the store is left alone
};

// Sees every value as it is computed.
using Observer = std::function<void(int32_t node, const std::vector<Tensor>& outputs)>;

// Runs the graph with the kernels of a backend. Under Backend::ref every floating-point value is
// f64, inputs and parameters too (converted where they are not), and so are the results. Throws on
// missing inputs, parameters or kernels.
Evaluation evaluate(const Graph& graph, const Inputs& inputs, const ParamStore& params,
                    Backend backend = Backend::cpu, const Observer& observer = nullptr);

}  // namespace graft
