// Norms and softmax.
#include "kernels/cpu/families.h"

namespace graft::cpu {

Family norm_kernels() { return {}; }

}  // namespace graft::cpu
