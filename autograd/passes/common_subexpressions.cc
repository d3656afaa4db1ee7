#include "autograd/passes/common_subexpressions.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>

#include "autograd/passes/dead_code.h"
#include "autograd/plan/sources.h"

namespace graft {
namespace {

// Nodes whose bytes an update writes over: what reads one of two equal copies before the update
// may have to read the other after it. Leaves are not copies: all of one name are the same bytes.
std::vector<bool> overwritten(const Graph& graph) {
  std::vector<bool> result(graph.nodes().size(), false);
  for (const Node& n : graph.nodes()) {
    for (int8_t input : n.op->updates) {
      if (input < 0) continue;
      const Value v = n.inputs[static_cast<size_t>(input)];
      result[static_cast<size_t>(v.node)] = graph.node(v.node).op->name != "param";
    }
  }
  return result;
}

}  // namespace

Graph common_subexpressions(const Graph& graph, Delta* delta) {
  // The operands are those that stand for the node's own, so one walk in topological order finds
  // equal expressions of any depth.
  using Expression = std::tuple<const OpDef*, int32_t, std::vector<Value>, std::string_view>;
  std::map<Expression, int32_t> first;
  std::vector<int32_t> stands_for(graph.nodes().size());
  const std::vector<bool> fixed = overwritten(graph);
  const auto canonical = [&](Value v) {
    return v.valid() ? Value{stands_for[static_cast<size_t>(v.node)], v.output} : v;
  };
  for (size_t i = 0; i < stands_for.size(); ++i) {
    const Node& n = graph.nodes()[i];
    stands_for[i] = static_cast<int32_t>(i);
    if (n.op->draws || changes_state(n) || fixed[i]) continue;
    Expression expression{n.op, n.part, {}, n.attrs.str()};
    for (const Value v : n.inputs) std::get<2>(expression).push_back(canonical(v));
    stands_for[i] = first.try_emplace(std::move(expression), stands_for[i]).first->second;
  }
  Builder b(graph);
  b.replace_values(canonical);
  return finish_live(b, delta, UnusedInputs::keep);
}

}  // namespace graft
