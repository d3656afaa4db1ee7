// Lookups and scatters.
#include "autograd/ops/families.h"

namespace graft::ops {

Family index_ops() { return {}; }

}  // namespace graft::ops
