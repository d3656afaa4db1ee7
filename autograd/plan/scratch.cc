#include "autograd/plan/scratch.h"

#include "autograd/op.h"
#include "core/error.h"

namespace graft {
namespace {

size_t scratch_bytes(const Graph& graph, const Node& n, Backend backend) {
  if (n.op->view_of >= 0) return 0;
  const KernelEntry* kernel = find_kernel(backend, n.op->name);
  if (kernel == nullptr) {
    throw DeviceError("op '{}' at '{}' has no {} kernel", n.op->name, n.scope, name_of(backend));
  }
  if (kernel->workspace == nullptr) return 0;
  std::vector<View> in, out;
  for (const Value v : n.inputs) {
    if (v.valid()) {
      in.push_back({nullptr, graph.type(v).dtype, graph.type(v).shape, true});
    } else {
      in.push_back({.present = false});
    }
  }
  for (const Type& t : n.outputs) out.push_back({nullptr, t.dtype, t.shape, true});
  return kernel->workspace({in, out, &n.attrs, nullptr});
}

}  // namespace

Scratch scratch_of(const Graph& graph, const std::vector<int32_t>& order, Backend backend) {
  Scratch scratch(graph.nodes().size(), 0);
  for (const int32_t id : order)
    scratch[static_cast<size_t>(id)] =
        static_cast<int64_t>(scratch_bytes(graph, graph.node(id), backend));
  return scratch;
}

}  // namespace graft
