// Shape changes.
#include "kernels/cpu/families.h"

namespace graft::cpu {

Family shape_kernels() { return {}; }

}  // namespace graft::cpu
