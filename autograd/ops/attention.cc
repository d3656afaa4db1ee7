// Attention and positions.
#include "autograd/ops/families.h"

namespace graft::ops {

Family attention_ops() { return {}; }

}  // namespace graft::ops
