// Algebra on reparametrized weights: x (W + s B A)^T + b -> x W^T + b + s (x A^T) B^T, diagonal
// factors to the side of the product where they are vectors, factors of a thin product before it,
// and the same for embedding lookups. Chosen by cost; merging works on the plain form, before this
// pass.
#pragma once

#include "autograd/builder.h"

namespace graft {

// Rewrites every product and lookup whose weight is such an expression and whose cheap form needs
// fewer operations in a training step.
Graph cheap_forms(const Graph& graph, Delta* delta = nullptr);

}  // namespace graft
