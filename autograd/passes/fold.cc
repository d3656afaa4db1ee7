#include "autograd/passes/fold.h"

#include <algorithm>
#include <set>

#include "autograd/builder.h"
#include "autograd/evaluate.h"
#include "autograd/passes/dead_code.h"
#include "core/error.h"

namespace graft {
namespace {

// Whether every leaf below v is a parameter (or a constant).
std::vector<bool> of_parameters_alone(const Graph& graph) {
  std::vector<bool> alone(graph.nodes().size());
  for (size_t i = 0; i < alone.size(); ++i) {
    const Node& n = graph.nodes()[i];
    alone[i] = n.op->name != "input" && std::ranges::all_of(n.inputs, [&](Value v) {
                 return !v.valid() || alone[static_cast<size_t>(v.node)];
               });
  }
  return alone;
}

// The first activation that reads something made of this adapter parameter.
std::string first_reader(const Graph& graph, const std::vector<bool>& alone,
                         const std::string& param) {
  std::vector<bool> tainted(graph.nodes().size(), false);
  for (size_t i = 0; i < tainted.size(); ++i) {
    const Node& n = graph.nodes()[i];
    if (n.op->name == "param") tainted[i] = n.attrs.as<NameAttrs>().name == param;
    for (const Value v : n.inputs)
      tainted[i] = tainted[i] || (v.valid() && tainted[static_cast<size_t>(v.node)]);
    if (tainted[i] && !alone[i]) return describe_node(graph, static_cast<int32_t>(i));
  }
  return "nothing";
}

}  // namespace

Folded fold_parameters(const Graph& graph, const ParamStore& params) {
  const std::vector<bool> alone = of_parameters_alone(graph);
  Builder values(graph);
  values.keep_outputs({});
  Builder b(graph);
  Folded result;
  for (const Mark& m : graph.marks(Role::reparametrized)) {
    if (!alone[static_cast<size_t>(m.value.node)]) continue;
    values.output(m.scope, m.value);
    b.replace_uses(m.value, b.param_value(m.scope));
    result.merged.push_back(m.scope);
  }
  // Only the folded values are computed: the graph without its inputs.
  const Graph value_graph = live_part(values.finish());
  const Evaluation folded = evaluate(value_graph, {}, params);
  result.graph = live_part(b.finish());
  for (const Param& p : result.graph.params()) {
    if (!p.adapter.empty()) {
      throw GraphError("the method cannot be merged: '{}' acts on an activation, at {}", p.name,
                       first_reader(result.graph, alone, p.name));
    }
    if (params.contains(p.name)) result.params.set(p.name, params.get(p.name));
  }
  for (const auto& [name, value] : folded.outputs) result.params.set(name, value);
  return result;
}

}  // namespace graft
