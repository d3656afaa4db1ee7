// Matrix products.
#include "kernels/cpu/families.h"

namespace graft::cpu {

Family matmul_kernels() { return {}; }

}  // namespace graft::cpu
