// Shape changes.
#include "autograd/ops/families.h"

namespace graft::ops {

Family shape_ops() { return {}; }

}  // namespace graft::ops
