#include "autograd/passes/optimize.h"

#include "autograd/passes/common_subexpressions.h"
#include "autograd/passes/dead_code.h"
#include "autograd/passes/fuse_products.h"
#include "autograd/passes/pack_weights.h"

namespace graft {

Graph optimize(const Graph& graph, const ParamStore* store) {
  return pack_weights(
      fuse_products(common_subexpressions(live_part(graph, nullptr, UnusedInputs::keep))), store);
}

}  // namespace graft
