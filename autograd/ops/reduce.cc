// Sums, means and maxima over axes.
#include "autograd/ops/families.h"

namespace graft::ops {

Family reduce_ops() { return {}; }

}  // namespace graft::ops
