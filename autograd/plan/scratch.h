// The scratch memory of nodes.
#pragma once

#include <cstddef>

#include "autograd/graph.h"
#include "kernels/kernel.h"

namespace graft {

// Bytes that a node's kernel works in. Throws DeviceError where the backend has none for its op.
size_t scratch_bytes(const Graph& graph, const Node& node, Backend backend);

}  // namespace graft
