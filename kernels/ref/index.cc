// Lookups and scatters.
#include "kernels/ref/families.h"

namespace graft::ref {

Family index_kernels() { return {}; }

}  // namespace graft::ref
