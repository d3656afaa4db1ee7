#include "autograd/compile.h"

#include "autograd/passes/optimize.h"

namespace graft {

std::shared_ptr<const Program> compile(const Graph& graph, const PlanOptions& options) {
  return std::make_shared<const Program>(plan(optimize(graph), options));
}

std::shared_ptr<const Program> compile(const Graph& graph, const ParamStore& store,
                                       const PlanOptions& options) {
  return std::make_shared<const Program>(plan(optimize(graph, &store), options));
}

}  // namespace graft
