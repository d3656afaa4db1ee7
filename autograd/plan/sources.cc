#include "autograd/plan/sources.h"

#include <algorithm>

#include "autograd/op.h"

namespace graft {

bool is_view(const Node& node) { return node.op->view_of >= 0; }

bool in_place(const Node& node, size_t output) {
  return output < node.op->updates.size() && node.op->updates[output] >= 0;
}

bool changes_state(const Node& node) {
  return std::ranges::any_of(node.op->updates, [](int8_t input) { return input >= 0; });
}

Value base_of(const Graph& graph, Value v) {
  while (is_view(graph.node(v.node))) {
    const Node& n = graph.node(v.node);
    v = n.inputs[static_cast<size_t>(n.op->view_of)];
  }
  return v;
}

Sources::Sources(const Graph& graph) : graph_(graph) {
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& n = graph.nodes()[i];
    if (n.op->name == "param")
      leaf_.try_emplace(n.attrs.as<NameAttrs>().name, Value{static_cast<int32_t>(i), 0});
  }
}

Value Sources::of(Value v) const {
  v = base_of(graph_, v);
  const Node& n = graph_.node(v.node);
  return n.op->name == "param" ? leaf_.at(n.attrs.as<NameAttrs>().name) : v;
}

}  // namespace graft
