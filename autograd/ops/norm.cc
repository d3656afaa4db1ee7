// Norms and softmax.
#include "autograd/ops/families.h"

namespace graft::ops {

Family norm_ops() { return {}; }

}  // namespace graft::ops
