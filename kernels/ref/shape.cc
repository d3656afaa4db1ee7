// Shape changes.
#include "kernels/ref/families.h"

namespace graft::ref {

Family shape_kernels() { return {}; }

}  // namespace graft::ref
