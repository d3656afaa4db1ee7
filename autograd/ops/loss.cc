// Losses.
#include "autograd/ops/families.h"

namespace graft::ops {

Family loss_ops() { return {}; }

}  // namespace graft::ops
