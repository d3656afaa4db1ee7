#include "autograd/compile.h"

#include "autograd/passes/optimize.h"
#include "autograd/planner.h"

namespace graft {

std::shared_ptr<const Program> compile(const Graph& graph) {
  return std::make_shared<const Program>(plan(optimize(graph)));
}

std::shared_ptr<const Program> compile(const Graph& graph, const ParamStore& store) {
  return std::make_shared<const Program>(plan(optimize(graph, &store)));
}

}  // namespace graft
