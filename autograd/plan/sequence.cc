#include "autograd/plan/sequence.h"

#include <algorithm>

namespace graft {

Sequence::Sequence(const Graph& graph, const std::vector<int32_t>& order) : graph_(graph) {
  const size_t count = graph.nodes().size();
  position_.assign(count, -1);
  first_.assign(count, 0);
  visited_.assign(count, false);
  size_t outputs = 0;
  for (size_t i = 0; i < count; ++i) {
    first_[i] = outputs;
    outputs += graph.nodes()[i].outputs.size();
  }
  there_.assign(outputs, false);
  always_.assign(outputs, false);
  for (size_t i = 0; i < order.size(); ++i) {
    if (graph.node(order[i]).phase == Phase::forward)
      position_[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  }
}

void Sequence::run(int32_t id) {
  runs_.push_back(id);
  for (size_t k = 0; k < graph_.node(id).outputs.size(); ++k)
    set_there({id, static_cast<int32_t>(k)}, true);
}

void Sequence::forget(const std::vector<int32_t>& nodes) {
  for (const int32_t id : nodes) {
    for (size_t k = 0; k < graph_.node(id).outputs.size(); ++k) drop({id, static_cast<int32_t>(k)});
  }
}

void Sequence::keep_to_the_end(Value v) {
  if (is_forward(v)) always_[at(v)] = true;
}

// Depth first without recursion: a chain may be long.
std::vector<int32_t> Sequence::missing(const std::vector<Value>& wanted) {
  std::vector<int32_t> found;
  for (const Value v : wanted) {
    if (is_there(v) || visited_[static_cast<size_t>(v.node)]) continue;
    std::vector<std::pair<int32_t, size_t>> stack{{v.node, 0}};
    visited_[static_cast<size_t>(v.node)] = true;
    while (!stack.empty()) {
      auto& [id, input] = stack.back();
      const Node& n = graph_.node(id);
      if (input < n.inputs.size()) {
        const Value in = n.inputs[input++];
        if (is_there(in) || visited_[static_cast<size_t>(in.node)]) continue;
        visited_[static_cast<size_t>(in.node)] = true;
        stack.emplace_back(in.node, 0);
        continue;
      }
      found.push_back(id);
      stack.pop_back();
    }
  }
  for (const int32_t id : found) visited_[static_cast<size_t>(id)] = false;
  return found;
}

void Sequence::want(Value v) {
  for (const int32_t id : missing({v})) run(id);
}

void Sequence::run_up_to(const std::vector<Value>& wanted) {
  std::vector<int32_t> nodes = missing(wanted);
  std::ranges::sort(nodes, {}, [&](int32_t id) { return position_[static_cast<size_t>(id)]; });
  runs_.insert(runs_.end(), nodes.begin(), nodes.end());
  for (const Value v : wanted) keep(v);
}

}  // namespace graft
