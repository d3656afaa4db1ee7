#include "autograd/passes/pack_weights.h"

#include <algorithm>
#include <map>
#include <set>

#include "autograd/builder.h"
#include "autograd/ops.h"
#include "autograd/passes/dead_code.h"

namespace graft {
namespace {

// Products with fewer features than this on a side sum in another order when W is not packed
// (kernels/cpu/gemm.h calls them thin), and are bound by reading x either way.
constexpr int64_t kFewestFeatures = 17;

bool is_product(const Graph& graph, const Use& u) {
  const std::string_view op = graph.node(u.node).op->name;
  return u.input == 1 && (op == "linear" || op == "linear_dx" || op == "fused_linear");
}
bool is_lookup(const Graph& graph, const Use& u) {
  return u.input == 1 && graph.node(u.node).op->name == "embedding";
}

// A frozen parameter, as it is or transposed: files of GPT-2 hold [in, out].
struct Weight {
  Value value;
  std::string param;
  Attrs transpose;  // where value is no leaf
  bool transposed = false;
};

std::vector<Weight> frozen_weights(const Graph& graph) {
  std::set<std::string> changing;
  for (const auto& [name, v] : graph.assignments()) changing.insert(name);
  std::map<Value, std::string> leaves;
  std::vector<Weight> weights;
  for (const Param& p : graph.params()) {
    if (p.trainable || p.kind != Param::Kind::weight || changing.contains(p.name)) continue;
    const Value leaf = graph.param_value(p.name);
    if (!leaf.valid()) continue;
    leaves[leaf] = p.name;
    weights.push_back({leaf, p.name, {}});
  }
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& n = graph.nodes()[i];
    if (n.op->name != "transpose") continue;
    if (const auto leaf = leaves.find(n.inputs[0]); leaf != leaves.end())
      weights.push_back({{static_cast<int32_t>(i), 0}, leaf->second, n.attrs, true});
  }
  return weights;
}

class WeightPacker {
 public:
  WeightPacker(const Graph& graph, const ParamStore* store)
      : graph_(graph),
        store_(store),
        live_(live_nodes(graph)),
        uses_(graph.nodes()),
        left_(live_.size(), true),
        b_(graph) {}

  Graph run() {
    for (const Weight& w : frozen_weights(graph_)) {
      if (!live_[static_cast<size_t>(w.value.node)]) continue;
      const std::vector<Use> uses = live_uses(w.value);
      const DType stored = stored_type(w);
      b_.part = graph_.node(w.value.node).part;  // a transpose stands in the part that reads it
      if (pays(w.value, uses)) {
        const bool bf16 = stored == DType::bf16;
        const Value panels = b_.node("pack", {bf16 ? as_stored(w, stored) : w.value});
        for (const Use& u : uses)
          is_lookup(graph_, u) ? look_up(u, panels) : multiply(w, u, panels);
      } else if (stored != DType::f32 && only_looked_up(w.value, uses)) {
        const Value table = as_stored(w, stored);
        for (const Use& u : uses) look_up(u, table);
      }
    }
    b_.part = 0;
    // Nothing may be left of a leaf in its old type, not even where no one reads it.
    for (size_t i = 0; i < live_.size(); ++i) {
      left_[i] = left_[i] && (live_[i] || graph_.nodes()[i].op->name == "input");
    }
    left_.resize(b_.graph().nodes().size(), true);
    b_.drop_dead(left_);
    return finish_live(b_, nullptr, UnusedInputs::keep);
  }

 private:
  std::vector<Use> live_uses(Value v) const {
    std::vector<Use> live;
    for (const Use& u : uses_.of(v)) {
      if (live_[static_cast<size_t>(u.node)]) live.push_back(u);
    }
    return live;
  }
  bool is_result(Value v) const {
    return std::ranges::any_of(graph_.outputs(), [&](const auto& o) { return o.second == v; });
  }

  // Whether the products that read this weight get faster and no second copy of it stays in memory.
  //  - Packed once is worth a factor of 1.2-2 at 64 rows or less and a few percent of a product of
  //    1024 rows, and never loses; packing costs as much as a product of some 50 rows, once per
  //    weight (bench/README.md).
  //  - A reader of another kind (the norm of DoRA) needs the rows as they were: both forms would
  //    stay. Lookups, of a table tied to the output layer, find theirs in panels.
  bool pays(Value weight, const std::vector<Use>& uses) const {
    const Shape& shape = graph_.type(weight).shape;
    if (graph_.type(weight).dtype != DType::f32 || shape.rank() != 2) return false;
    if (std::min(shape[0], shape[1]) < kFewestFeatures || is_result(weight)) return false;
    return std::ranges::any_of(uses, [&](const Use& u) { return is_product(graph_, u); }) &&
           std::ranges::all_of(
               uses, [&](const Use& u) { return is_product(graph_, u) || is_lookup(graph_, u); });
  }
  bool only_looked_up(Value table, const std::vector<Use>& uses) const {
    return !is_result(table) &&
           std::ranges::all_of(uses, [&](const Use& u) { return is_lookup(graph_, u); });
  }

  // The type in which the store has this weight, if nothing else reads the parameter; else f32.
  DType stored_type(const Weight& w) const {
    if (store_ == nullptr || !store_->contains(w.param)) return DType::f32;
    const Value leaf = graph_.param_value(w.param);
    if (leaf != w.value && (live_uses(leaf).size() != 1 || is_result(leaf))) return DType::f32;
    const DType stored = store_->stored_type(w.param);
    return stored == DType::bf16 || stored == DType::f16 ? stored : DType::f32;
  }
  Value as_stored(const Weight& w, DType stored) {
    left_[static_cast<size_t>(w.value.node)] = false;
    left_[static_cast<size_t>(graph_.param_value(w.param).node)] = false;
    const Value leaf = b_.retype_param(w.param, stored);
    return w.transposed ? b_.node("transpose", {leaf}, w.transpose) : leaf;
  }

  void multiply(const Weight& w, const Use& u, Value panels) {
    const Node n = b_.graph().node(u.node);
    if (n.op->name == "fused_linear") return b_.set_input(u, panels);
    const Shape& shape = graph_.type(w.value).shape;
    const FusedLinearAttrs attrs{
        .out = shape[0], .in = shape[1], .backward = n.op->name == "linear_dx"};
    replace(u, [&] {
      std::vector<Value> inputs = n.inputs;
      inputs[1] = panels;
      return b_.node("fused_linear", inputs, Attrs::of(attrs));
    });
  }

  void look_up(const Use& u, Value table) {
    const Node n = b_.graph().node(u.node);
    replace(u, [&] {
      return ops::cast(b_, b_.node("embedding", {n.inputs[0], table}, n.attrs), DType::f32);
    });
  }

  // The node of a use by what `make` builds in its place.
  template <typename F>
  void replace(const Use& u, F make) {
    const Node& n = b_.graph().node(u.node);
    const int32_t part = b_.part;
    b_.set_path(n.scope);
    b_.phase = n.phase;
    b_.part = n.part;
    b_.replace_uses({u.node, 0}, make());
    left_[static_cast<size_t>(u.node)] = false;
    b_.set_path("");
    b_.phase = Phase::forward;
    b_.part = part;
  }

  const Graph& graph_;
  const ParamStore* const store_;
  const std::vector<bool> live_;
  const Uses uses_;
  std::vector<bool> left_;  // [node]: that the rewrite has not replaced
  Builder b_;
};

}  // namespace

Graph pack_weights(const Graph& graph, const ParamStore* store) {
  return WeightPacker(graph, store).run();
}

}  // namespace graft
