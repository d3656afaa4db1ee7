#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_index_rows(OpRows&) {}

}  // namespace graft::testing
