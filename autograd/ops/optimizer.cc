// Optimizer updates and schedules.
#include "autograd/ops/families.h"

namespace graft::ops {

Family optimizer_ops() { return {}; }

}  // namespace graft::ops
