#include "autograd/passes/dead_code.h"

#include "autograd/op.h"

namespace graft {

std::vector<bool> live_nodes(const Graph& graph) {
  std::vector<bool> live(graph.nodes().size(), false);
  for (const Value v : graph.results()) live[static_cast<size_t>(v.node)] = true;
  for (size_t i = live.size(); i-- > 0;) {
    if (!live[i]) continue;
    for (const Value v : graph.nodes()[i].inputs) {
      if (v.valid()) live[static_cast<size_t>(v.node)] = true;
    }
  }
  return live;
}

Graph live_part(const Graph& graph, Delta* delta, UnusedInputs unused) {
  Builder b(graph);
  std::vector<bool> live = live_nodes(graph);
  for (size_t i = 0; i < live.size() && unused == UnusedInputs::keep; ++i) {
    live[i] = live[i] || graph.nodes()[i].op->name == "input";
  }
  b.drop_dead(std::move(live));
  return b.finish(delta);
}

Graph finish_live(Builder& b, Delta* delta, UnusedInputs unused) {
  Delta rewrite, removal;
  const Graph whole = b.finish(&rewrite);
  Graph live = live_part(whole, &removal, unused);
  if (delta != nullptr) *delta = then(rewrite, removal);
  return live;
}

}  // namespace graft
