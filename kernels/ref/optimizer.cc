// Optimizer updates and schedules.
#include "kernels/ref/families.h"

namespace graft::ref {

Family optimizer_kernels() { return {}; }

}  // namespace graft::ref
