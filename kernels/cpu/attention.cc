// Attention and positions.
#include "kernels/cpu/families.h"

namespace graft::cpu {

Family attention_kernels() { return {}; }

}  // namespace graft::cpu
