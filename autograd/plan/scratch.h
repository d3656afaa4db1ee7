// The scratch memory of nodes.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/graph.h"
#include "kernels/kernel.h"

namespace graft {

using Scratch = std::vector<int64_t>;  // [node]: bytes that its kernel works in

// Of the nodes of an order. Throws DeviceError where the backend has no kernel for one's op.
Scratch scratch_of(const Graph& graph, const std::vector<int32_t>& order, Backend backend);

}  // namespace graft
