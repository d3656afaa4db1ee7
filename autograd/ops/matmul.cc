// Matrix products.
#include "autograd/ops/families.h"

namespace graft::ops {

Family matmul_ops() { return {}; }

}  // namespace graft::ops
