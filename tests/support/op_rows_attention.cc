#include "autograd/ops.h"
#include "tests/support/op_rows.h"

namespace graft::testing {

void add_attention_rows(OpRows&) {}

}  // namespace graft::testing
