// Norms and softmax.
#include "kernels/ref/families.h"

namespace graft::ref {

Family norm_kernels() { return {}; }

}  // namespace graft::ref
