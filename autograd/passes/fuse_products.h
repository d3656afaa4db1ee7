// A product takes over what surrounds it: factors, residual and gradient sums, activations. Each of
// these would read and write the whole result once more; inside the product the numbers are in
// registers or in L1.
#pragma once

#include "autograd/graph.h"

namespace graft {

// Rewrites a finished graph, gradients included, with the op fused_linear:
//   scale(x W^T), (scale x) W^T            -> a factor of the product
//   x W^T + y of the same shape            -> a product that starts from y
//   act(x W^T + ...)                       -> the same, and the activation on its way out, where
//                                             nothing else reads what enters it
// for x W^T and, in gradients, dy W. The results differ by rounding only: factors and sums are
// taken in another order.
Graph fuse_products(const Graph& graph);

}  // namespace graft
