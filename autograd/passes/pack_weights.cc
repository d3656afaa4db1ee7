#include "autograd/passes/pack_weights.h"

#include <algorithm>
#include <set>

#include "autograd/builder.h"
#include "autograd/passes/dead_code.h"

namespace graft {
namespace {

// Products with fewer features than this on a side sum in another order when W is not packed
// (kernels/cpu/gemm.h calls them thin), and are bound by reading x either way.
constexpr int64_t kFewestFeatures = 17;

// Whether the products that read this weight get faster and no second copy of it stays in memory.
//  - Packed once is worth a factor of 1.2-2 at 64 rows or less and a few percent of a product of
//  1024
//    rows, and never loses; packing costs as much as a product of some 50 rows, once per weight
//    (bench/README.md).
//  - A reader of another kind (an embedding tied to the output layer, the norm of DoRA) needs the
//    rows as they were: both forms would stay.
bool pays(const Graph& graph, const std::vector<bool>& live, Value weight,
          const std::vector<Use>& uses) {
  const Shape& shape = graph.type(weight).shape;
  if (graph.type(weight).dtype != DType::f32 || shape.rank() != 2) return false;
  if (std::min(shape[0], shape[1]) < kFewestFeatures) return false;
  const auto named_result = [&](const auto& named) { return named.second == weight; };
  if (std::ranges::any_of(graph.outputs(), named_result)) return false;
  return std::ranges::all_of(uses, [&](const Use& u) {
    const std::string_view op = graph.node(u.node).op->name;
    return !live[static_cast<size_t>(u.node)] ||
           (u.input == 1 && (op == "linear" || op == "linear_dx" || op == "fused_linear"));
  });
}

// Frozen parameters, as they are or transposed: files of GPT-2 hold [in, out].
std::vector<Value> frozen_weights(const Graph& graph) {
  std::set<std::string> changing;
  for (const auto& [name, v] : graph.assignments()) changing.insert(name);
  std::set<Value> leaves;
  std::vector<Value> weights;
  for (const Param& p : graph.params()) {
    if (p.trainable || p.kind != Param::Kind::weight || changing.contains(p.name)) continue;
    const Value leaf = graph.param_value(p.name);
    if (!leaf.valid()) continue;
    leaves.insert(leaf);
    weights.push_back(leaf);
  }
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& n = graph.nodes()[i];
    if (n.op->name == "transpose" && leaves.contains(n.inputs[0]))
      weights.push_back({static_cast<int32_t>(i), 0});
  }
  return weights;
}

}  // namespace

Graph pack_weights(const Graph& graph) {
  const std::vector<bool> live = live_nodes(graph);
  const Uses uses(graph.nodes());
  Builder b(graph);
  for (const Value weight : frozen_weights(graph)) {
    if (!live[static_cast<size_t>(weight.node)] || !pays(graph, live, weight, uses.of(weight)))
      continue;
    const Shape& shape = graph.type(weight).shape;
    const Value panels = b.node("pack", {weight});
    for (const Use& u : uses.of(weight)) {
      if (!live[static_cast<size_t>(u.node)]) continue;
      const Node n = b.graph().node(u.node);
      if (n.op->name == "fused_linear") {
        b.set_input(u, panels);
        continue;
      }
      b.set_path(n.scope);
      b.phase = n.phase;
      b.part = n.part;
      std::vector<Value> inputs = n.inputs;
      inputs[1] = panels;
      const FusedLinearAttrs attrs{
          .out = shape[0], .in = shape[1], .backward = n.op->name == "linear_dx"};
      b.replace_uses({u.node, 0}, b.node("fused_linear", inputs, Attrs::of(attrs)));
    }
    b.set_path("");
    b.phase = Phase::forward;
    b.part = 0;
  }
  return finish_live(b, nullptr, UnusedInputs::keep);
}

}  // namespace graft
