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

// A graph cut in two: what parameters alone decide, and the rest, which reads those values as
// leaves.
struct Cut {
  Graph values, rest;
  std::vector<std::string> merged;
};

Cut cut(const Graph& graph) {
  const std::vector<bool> alone = of_parameters_alone(graph);
  Builder values(graph);
  values.keep_outputs({});
  Builder rest(graph);
  Cut result;
  for (const Mark& m : graph.marks(Role::reparametrized)) {
    if (!alone[static_cast<size_t>(m.value.node)]) continue;
    values.output(m.scope, m.value);
    rest.replace_uses(m.value, rest.param_value(m.scope));
    result.merged.push_back(m.scope);
  }
  result.values = live_part(values.finish());
  result.rest = live_part(rest.finish());
  for (const Param& p : result.rest.params()) {
    if (p.adapter.empty()) continue;
    throw GraphError("the method cannot be merged: '{}' acts on an activation, at {}", p.name,
                     first_reader(result.rest, of_parameters_alone(result.rest), p.name));
  }
  return result;
}

}  // namespace

void expect_mergeable(const Graph& graph) { cut(graph); }

Folded fold_parameters(const Graph& graph, const ParamStore& params) {
  Cut parts = cut(graph);
  Folded result{std::move(parts.rest), {}, std::move(parts.merged)};
  const Evaluation folded = evaluate(parts.values, {}, params);
  for (const Param& p : result.graph.params()) {
    if (params.contains(p.name)) result.params.share(p.name, params);
  }
  for (const auto& [name, value] : folded.outputs) result.params.set(name, value);
  return result;
}

}  // namespace graft
