// Lookups and scatters.
#include "kernels/cpu/families.h"

namespace graft::cpu {

Family index_kernels() { return {}; }

}  // namespace graft::cpu
