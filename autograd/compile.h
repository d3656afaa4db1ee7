// From a finished graph to what an Executor runs.
#pragma once

#include <memory>

#include "autograd/graph.h"
#include "autograd/program.h"

namespace graft {

// optimize (passes/optimize.h), then plan (planner.h).
std::shared_ptr<const Program> compile(const Graph& graph);

}  // namespace graft
