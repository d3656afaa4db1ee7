// Matrix products.
#include "kernels/ref/families.h"

namespace graft::ref {

Family matmul_kernels() { return {}; }

}  // namespace graft::ref
