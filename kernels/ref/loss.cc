// Losses.
#include "kernels/ref/families.h"

namespace graft::ref {

Family loss_kernels() { return {}; }

}  // namespace graft::ref
