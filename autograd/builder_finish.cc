// The end of a rewrite: nodes in an order in which they can run, dead ones left out.
#include <algorithm>

#include "autograd/builder.h"
#include "core/error.h"

namespace graft {
namespace {

// New nodes of forward that only later phases read, as the bits that backward wants of a ReLU,
// behind what they read: it need not live until then.
void move_up_saved(const std::vector<Node>& nodes, int32_t base_nodes,
                   std::vector<int32_t>& order) {
  std::vector<bool> stays(nodes.size(), true);
  for (size_t i = static_cast<size_t>(base_nodes); i < nodes.size(); ++i)
    stays[i] = nodes[i].phase != Phase::forward || nodes[i].inputs.empty();
  std::vector<bool> read(nodes.size(), false);
  for (const Node& n : nodes) {
    for (const Value v : n.inputs) {
      if (!v.valid()) continue;
      const auto from = static_cast<size_t>(v.node);
      read[from] = true;
      if (n.phase == Phase::forward) stays[from] = true;
    }
  }
  std::vector<size_t> turn(nodes.size());
  for (size_t at = 0; at < order.size(); ++at) {
    const auto id = static_cast<size_t>(order[at]);
    turn[id] = at;
    if (stays[id] || !read[id]) continue;
    turn[id] = 0;
    for (const Value v : nodes[id].inputs) {
      if (v.valid()) turn[id] = std::max(turn[id], turn[static_cast<size_t>(v.node)]);
    }
  }
  std::ranges::stable_sort(order, {}, [&](int32_t id) { return turn[static_cast<size_t>(id)]; });
}

// Old nodes keep their relative order where dependencies allow; a new node is placed just before
// the first node that reads it. Depth-first from each old node in turn does exactly that; recursion
// would overflow on deep graphs.
std::vector<int32_t> sorted_order(const std::vector<Node>& nodes, int32_t base_nodes) {
  enum : uint8_t { unseen, open, done };
  std::vector<uint8_t> state(nodes.size(), unseen);
  std::vector<int32_t> order;
  std::vector<std::pair<int32_t, size_t>> stack;
  auto visit = [&](int32_t root) {
    if (state[static_cast<size_t>(root)] != unseen) return;
    stack.emplace_back(root, 0);
    state[static_cast<size_t>(root)] = open;
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      const Node& n = nodes[static_cast<size_t>(id)];
      if (next == n.inputs.size()) {
        state[static_cast<size_t>(id)] = done;
        order.push_back(id);
        stack.pop_back();
        continue;
      }
      const Value v = n.inputs[next++];
      if (!v.valid() || state[static_cast<size_t>(v.node)] == done) continue;
      if (state[static_cast<size_t>(v.node)] == open) {
        throw GraphError("the rewrite made a cycle through {} at '{}'", n.op->name, n.scope);
      }
      state[static_cast<size_t>(v.node)] = open;
      stack.emplace_back(v.node, 0);
    }
  };
  for (int32_t i = 0; i < base_nodes; ++i) visit(i);
  for (size_t i = 0; i < nodes.size(); ++i) visit(static_cast<int32_t>(i));
  // Within a part backward stands after forward; updates come at the end.
  auto turn = [&](int32_t id) {
    const Node& n = nodes[static_cast<size_t>(id)];
    return n.phase == Phase::update ? INT64_MAX
                                    : 2 * int64_t{n.part} + (n.phase == Phase::backward);
  };
  std::ranges::stable_sort(order, {}, turn);
  move_up_saved(nodes, base_nodes, order);
  return order;
}

}  // namespace

Graph Builder::finish(Delta* delta) {
  std::vector<int32_t> order = sorted_order(g_.nodes_, base_nodes_);
  if (!live_.empty()) {
    auto dead = [&](Value v) {
      return static_cast<size_t>(v.node) < live_.size() && !live_[static_cast<size_t>(v.node)];
    };
    std::erase_if(order, [&](int32_t id) { return dead({id, 0}); });
    std::erase_if(g_.marks_, [&](const Mark& m) { return dead(m.value); });
    std::set<std::string> read;
    for (const auto& [name, v] : g_.assignments_) read.insert(name);
    for (int32_t id : order) {
      const Node& n = g_.node(id);
      if (n.op->name == "param") read.insert(n.attrs.as<NameAttrs>().name);
    }
    std::erase_if(g_.params_, [&](const Param& p) { return !read.contains(p.name); });
  }
  std::vector<int32_t> place(g_.nodes_.size(), -1);
  for (size_t i = 0; i < order.size(); ++i)
    place[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  auto moved = [&](Value& v) {
    if (v.valid()) v.node = place[static_cast<size_t>(v.node)];
  };

  Graph out;
  out.params_ = g_.params_;
  out.outputs_ = g_.outputs_;
  out.assignments_ = g_.assignments_;
  out.marks_ = g_.marks_;
  out.nodes_.reserve(order.size());
  for (int32_t id : order) {
    out.nodes_.push_back(g_.nodes_[static_cast<size_t>(id)]);
    for (Value& v : out.nodes_.back().inputs) moved(v);
  }
  for (auto& [name, v] : out.outputs_) moved(v);
  for (auto& [name, v] : out.assignments_) moved(v);
  for (Mark& m : out.marks_) moved(m.value);
  verify(out);

  if (delta != nullptr) {
    *delta = {};
    for (size_t i = 0; i < order.size(); ++i) {
      const bool added = order[i] >= base_nodes_;
      delta->origin.push_back(added ? -1 : order[i]);
      if (added) delta->added.push_back(static_cast<int32_t>(i));
    }
    for (const Use& u : rewired_) {
      const int32_t node = place[static_cast<size_t>(u.node)];
      if (node >= 0) delta->rewired.push_back({node, u.input});
    }
    for (const Param& p : out.params_) {
      const auto it = base_trainable_.find(p.name);
      if (it == base_trainable_.end()) {
        delta->new_params.push_back(p.name);
      } else if (it->second != p.trainable) {
        (p.trainable ? delta->unfrozen : delta->frozen).push_back(p.name);
      }
    }
  }
  return out;
}

}  // namespace graft
