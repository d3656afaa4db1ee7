// Orders a graph, decides how long each value lives and where in one arena it stands.
#pragma once

#include "autograd/graph.h"
#include "autograd/plan/recompute.h"
#include "autograd/program.h"

namespace graft {

struct PlanOptions {
  Backend backend = Backend::cpu;
  Recompute recompute = Recompute::cheap;
  // Recompute::automatic: bytes that the program may need at its peak, parameters included.
  size_t budget = 0;
  bool in_place = true;  // let outputs overwrite inputs that die
};

// The program of a graph. Dead nodes are left out; results named by Graph::outputs stay readable
// until the next run. A budget that cannot be met gives the program that needs the least. Throws
// DeviceError for an op without a kernel, GraphError for assignments that cannot be ordered.
Program plan(const Graph& graph, const PlanOptions& options = {});

}  // namespace graft
