// From a finished graph to what an Executor runs.
#pragma once

#include <memory>

#include "autograd/graph.h"
#include "autograd/param_store.h"
#include "autograd/planner.h"
#include "autograd/program.h"

namespace graft {

// optimize (passes/optimize.h), then plan (planner.h). With the store that the program will run on,
// weights that are stored in 16 bits are read in 16 bits.
std::shared_ptr<const Program> compile(const Graph& graph, const PlanOptions& options = {});
std::shared_ptr<const Program> compile(const Graph& graph, const ParamStore& store,
                                       const PlanOptions& options = {});

}  // namespace graft
