// Losses.
#include "kernels/cpu/families.h"

namespace graft::cpu {

Family loss_kernels() { return {}; }

}  // namespace graft::cpu
