// When parameters are updated.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/plan/ledger.h"

namespace graft {

// The same nodes, those of forward and backward as they stand. What ends more than it leaves behind
// is updated as soon as it can be: when its gradient is there and nobody asks for the old value any
// more, be it to compute a value of forward again that backward reads.
std::vector<int32_t> update_early(const Graph& graph, const std::vector<int32_t>& order,
                                  const Scratch& scratch);

}  // namespace graft
