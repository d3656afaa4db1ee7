#include "autograd/plan/recompute.h"

#include <algorithm>
#include <map>
#include <set>

#include "autograd/op.h"
#include "autograd/plan/min_cut.h"
#include "core/error.h"

namespace graft {
namespace {

class Keeper {
 public:
  Keeper(const Graph& graph, const std::vector<int32_t>& order)
      : graph_(graph), order_(order), network_(2) {
    const size_t count = graph.nodes().size();
    runs_.assign(count, false);
    for (const int32_t id : order) runs_[static_cast<size_t>(id)] = true;
    find_pinned();
  }

  std::vector<int32_t> runs() {
    choose();
    again_.assign(graph_.nodes().size(), false);
    for (const int32_t id : order_) {
      if (!is_forward(id)) {
        for (const Value v : node(id).inputs) want(v);
      }
      sequence_.push_back(id);
    }
    return std::move(sequence_);
  }

 private:
  static constexpr int32_t kSource = 0, kSink = 1;
  const Node& node(int32_t id) const { return graph_.node(id); }
  bool is_forward(int32_t id) const { return node(id).phase == Phase::forward; }
  // Computed by a run of forward: leaves and what is computed once are there anyway.
  bool counts(Value v) const {
    return v.valid() && runs_[static_cast<size_t>(v.node)] && is_forward(v.node);
  }
  bool repeatable(int32_t id) const {
    const OpDef& op = *node(id).op;
    return !op.costly && std::ranges::all_of(op.updates, [](int8_t u) { return u < 0; });
  }

  // Results are there to the end.
  void find_pinned() {
    for (const auto* named : {&graph_.outputs(), &graph_.assignments()}) {
      for (const auto& [name, v] : *named) pinned_.insert(v);
    }
  }

  // The minimum cut between what only costly nodes give and what backward reads. A value is an edge
  // as wide as its bytes; it needs all inputs of its node, unless it is kept.
  void choose() {
    std::map<Value, int32_t> entry;  // of a value; its exit follows
    const auto entry_of = [&](Value v) {
      const auto [it, fresh] = entry.try_emplace(v, 0);
      if (!fresh) return it->second;
      it->second = network_.add_node();
      network_.add_node();
      const auto bytes = static_cast<int64_t>(graph_.type(v).bytes());
      network_.add_edge(it->second, it->second + 1,
                        pinned_.contains(v) ? 0 : std::max<int64_t>(bytes, 1));
      return it->second;
    };
    for (const int32_t id : order_) {
      if (is_forward(id)) {
        for (size_t k = 0; k < node(id).outputs.size(); ++k) {
          const int32_t at = entry_of({id, static_cast<int32_t>(k)});
          if (!repeatable(id)) network_.add_edge(kSource, at, FlowNetwork::kInfinite);
          for (const Value v : node(id).inputs) {
            if (counts(v)) network_.add_edge(entry_of(v) + 1, at, FlowNetwork::kInfinite);
          }
        }
      } else {
        for (const Value v : node(id).inputs) {
          if (!counts(v)) continue;
          network_.add_edge(entry_of(v) + 1, kSink, FlowNetwork::kInfinite);
          // By then parameters may have changed that it would be computed from.
          if (node(id).phase == Phase::update)
            network_.add_edge(kSource, entry_of(v), FlowNetwork::kInfinite);
        }
      }
    }
    network_.maximize(kSource, kSink);
    const std::vector<bool> below = network_.sink_side(kSink);
    for (const auto& [v, at] : entry) {
      if (!below[static_cast<size_t>(at)] && below[static_cast<size_t>(at) + 1]) kept_.insert(v);
    }
  }

  // Makes a value of forward readable here.
  void want(Value v) {
    if (!counts(v) || kept_.contains(v) || pinned_.contains(v) ||
        again_[static_cast<size_t>(v.node)])
      return;
    // Depth first without recursion: a chain may be long.
    std::vector<std::pair<int32_t, size_t>> stack{{v.node, 0}};
    while (!stack.empty()) {
      auto& [id, input] = stack.back();
      const Node& n = node(id);
      if (input < n.inputs.size()) {
        const Value in = n.inputs[input++];
        if (counts(in) && !kept_.contains(in) && !pinned_.contains(in) &&
            !again_[static_cast<size_t>(in.node)])
          stack.emplace_back(in.node, 0);
        continue;
      }
      if (!again_[static_cast<size_t>(id)]) {
        again_[static_cast<size_t>(id)] = true;
        sequence_.push_back(id);
      }
      stack.pop_back();
    }
  }

  const Graph& graph_;
  const std::vector<int32_t>& order_;
  FlowNetwork network_;
  std::vector<bool> runs_, again_;
  std::set<Value> kept_, pinned_;
  std::vector<int32_t> sequence_;
};

}  // namespace

std::string_view name_of(Recompute recompute) {
  return recompute == Recompute::none ? "none" : "cheap";
}

Recompute recompute_named(std::string_view name) {
  for (const Recompute r : {Recompute::none, Recompute::cheap}) {
    if (name == name_of(r)) return r;
  }
  throw UsageError("--recompute takes none or cheap; got '{}'", name);
}

std::vector<int32_t> with_recomputation(const Graph& graph, const std::vector<int32_t>& order,
                                        Recompute recompute) {
  if (recompute == Recompute::none) return order;
  return Keeper(graph, order).runs();
}

}  // namespace graft
