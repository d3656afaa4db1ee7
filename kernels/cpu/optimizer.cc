// Optimizer updates and schedules.
#include "kernels/cpu/families.h"

namespace graft::cpu {

Family optimizer_kernels() { return {}; }

}  // namespace graft::cpu
