#include "autograd/plan/order.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>

#include "autograd/op.h"
#include "autograd/plan/free_early.h"
#include "autograd/plan/sources.h"
#include "autograd/topological.h"
#include "core/error.h"

namespace graft {

bool is_leaf(const Node& n) { return n.op->name == "input" || n.op->name == "param"; }

std::vector<bool> computed_once(const Graph& graph, const std::vector<bool>& live) {
  std::set<std::string> changing;
  for (const auto& [name, v] : graph.assignments()) changing.insert(name);
  const size_t count = graph.nodes().size();
  std::vector<bool> once(count, false), frozen(count, false);
  for (size_t i = 0; i < count; ++i) {
    const Node& n = graph.nodes()[i];
    if (n.op->name == "param") {
      const Param& param = graph.param(n.attrs.as<NameAttrs>().name);
      frozen[i] =
          !param.trainable && param.kind == Param::Kind::weight && !changing.contains(param.name);
    } else if ((!n.inputs.empty() || n.op->once) && n.op->view_of < 0) {
      frozen[i] = std::ranges::all_of(
          n.inputs, [&](Value v) { return !v.valid() || frozen[static_cast<size_t>(v.node)]; });
      once[i] = frozen[i] && live[i];
    } else if (n.op->view_of >= 0) {
      frozen[i] = frozen[static_cast<size_t>(n.inputs[0].node)];
    }
  }
  return once;
}

std::vector<int32_t> execution_order(const Graph& graph, const std::vector<bool>& live,
                                     const std::vector<bool>& once, Backend backend) {
  const auto count = static_cast<int32_t>(graph.nodes().size());
  Topological sort(graph.nodes().size());
  const Sources sources(graph);
  std::map<Value, std::vector<int32_t>> readers;  // of the same bytes, views and leaves alike
  for (int32_t i = 0; i < count; ++i) {
    if (!live[static_cast<size_t>(i)]) continue;
    for (const Value v : graph.node(i).inputs) {
      if (v.valid()) readers[sources.of(v)].push_back(i);
    }
  }
  for (int32_t i = 0; i < count; ++i) {
    if (!live[static_cast<size_t>(i)]) continue;
    const Node& n = graph.node(i);
    for (const Value v : n.inputs) {
      if (v.valid()) sort.add(v.node, i);
    }
    for (int8_t updated : n.op->updates) {
      if (updated < 0) continue;
      for (const int32_t reader : readers[sources.of(n.inputs[static_cast<size_t>(updated)])]) {
        if (reader != i) sort.add(reader, i);
      }
    }
  }
  const std::vector<int32_t> sorted = sort.order();
  if (sorted.size() != graph.nodes().size()) {
    throw GraphError(
        "updates in place cannot be ordered: two of them read each other's old values");
  }
  std::vector<int32_t> order;
  std::ranges::copy_if(sorted, std::back_inserter(order), [&](int32_t id) {
    const auto i = static_cast<size_t>(id);
    return live[i] && !once[i] && !is_leaf(graph.node(id));
  });
  return free_early(graph, order, backend);
}

}  // namespace graft
