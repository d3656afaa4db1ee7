// Attention and positions.
#include "kernels/ref/families.h"

namespace graft::ref {

Family attention_kernels() { return {}; }

}  // namespace graft::ref
