#include "autograd/builder.h"

#include <algorithm>
#include <queue>

#include "core/error.h"

namespace graft {

Builder::Builder(const Graph& base)
    : g_(base), base_nodes_(static_cast<int32_t>(base.nodes().size())) {
  for (int32_t i = 0; i < base_nodes_; ++i) {
    const Node& n = g_.node(i);
    if (n.op->name == "param" || n.op->name == "input") {
      leaves_[n.attrs.as<NameAttrs>().name] = {i, 0};
    }
  }
  for (const Param& p : base.params()) base_trainable_[p.name] = p.trainable;
}

Builder::Scope::Scope(Builder& b, std::string_view name) : b_(b), before_(b.path_) {
  b_.path_ = b_.path(name);
}
Builder::Scope::~Scope() { b_.path_ = std::move(before_); }

std::string Builder::path(std::string_view name) const {
  if (name.empty()) return path_;
  return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
}

Value Builder::input(std::string name, DType dtype, Shape shape) {
  if (const auto it = leaves_.find(name); it != leaves_.end()) {
    if (type(it->second) != Type{dtype, shape}) {
      throw GraphError("input '{}' is declared as {} and as {}", name, type(it->second).str(),
                       Type{dtype, shape}.str());
    }
    return it->second;
  }
  const Value v = node("input", {}, Attrs::of(NameAttrs{name, dtype, shape}));
  leaves_[name] = v;
  return v;
}

Value Builder::param(const Param& param) {
  if (const Param* known = g_.find_param(param.name)) {
    if (known->type != param.type) {
      throw GraphError("parameter '{}' is declared as {} and as {}", param.name, known->type.str(),
                       param.type.str());
    }
  } else {
    g_.params_.push_back(param);
  }
  return param_value(param.name);
}

Value Builder::retype_param(std::string_view name, DType dtype) {
  param_ref(name).type.dtype = dtype;
  if (const auto it = leaves_.find(name); it != leaves_.end()) leaves_.erase(it);
  return param_value(name);
}

Value Builder::param_value(std::string_view name) {
  if (const auto it = leaves_.find(name); it != leaves_.end()) return it->second;
  const Param& p = g_.param(name);
  const Phase saved = std::exchange(phase, Phase::forward);
  const int32_t saved_part = std::exchange(part, 0);
  const Value v = node("param", {}, Attrs::of(NameAttrs{p.name, p.type.dtype, p.type.shape}));
  phase = saved;
  part = saved_part;
  leaves_[std::string(name)] = v;
  return v;
}

namespace {

template <typename A>
Attrs other_stream(A attrs, int32_t part) {
  attrs.stream += int64_t{part} * 0x9E3779B9;
  return Attrs::of(attrs);
}

// What is dropped differs between micro-batches.
Attrs attrs_of_part(const Node& n, int32_t part) {
  if (part == 0) return n.attrs;
  if (n.op->name == "dropout") return other_stream(n.attrs.as<DropoutAttrs>(), part);
  if (n.op->name == "attention" && n.attrs.as<AttentionAttrs>().dropout > 0)
    return other_stream(n.attrs.as<AttentionAttrs>(), part);
  return n.attrs;
}

}  // namespace

std::function<Value(Value)> Builder::append(const Graph& graph, const std::string& suffix) {
  for (const Param& p : graph.params()) {
    if (g_.find_param(p.name) == nullptr) g_.params_.push_back(p);
  }
  const std::string path = path_;
  std::vector<int32_t> place;
  auto moved = [&place](Value v) {
    return v.valid() ? Value{place[static_cast<size_t>(v.node)], v.output} : v;
  };
  for (const Node& n : graph.nodes()) {
    if (n.op->name == "param") {
      place.push_back(param_value(n.attrs.as<NameAttrs>().name).node);
    } else if (n.op->name == "input") {
      const auto& a = n.attrs.as<NameAttrs>();
      place.push_back(input(a.name + suffix, a.dtype, a.shape).node);
    } else {
      std::vector<Value> inputs;
      for (const Value v : n.inputs) inputs.push_back(moved(v));
      path_ = n.scope;
      place.push_back(node(n.op->name, inputs, attrs_of_part(n, part)).node);
    }
  }
  path_ = path;
  for (const Mark& m : graph.marks()) {
    if (m.role != Role::reparametrized)
      g_.marks_.push_back({m.role, moved(m.value), m.layer, m.scope});
  }
  return [place](Value v) {
    return v.valid() ? Value{place[static_cast<size_t>(v.node)], v.output} : v;
  };
}

Value Builder::constant(double value, Shape shape, DType dtype) {
  return node("full", {}, Attrs::of(FullAttrs{value, dtype, shape}));
}

Value Builder::node(std::string_view op, std::vector<Value> inputs, Attrs attrs) {
  const OpDef& def = find_op(op);
  std::vector<std::optional<Type>> types;
  for (const Value v : inputs) {
    if (!v.valid()) {
      types.emplace_back(std::nullopt);
    } else if (static_cast<size_t>(v.node) < g_.nodes_.size()) {
      types.emplace_back(g_.type(v));
    } else {
      throw GraphError("{} at '{}' reads %{}, which is not a value of this builder", op, path_,
                       v.node);
    }
  }
  Node n{&def, std::move(attrs), std::move(inputs), {}, path_, phase, part};
  try {
    n.outputs = infer_types(def, n.attrs, types);
  } catch (const ShapeError& e) {
    throw ShapeError("{}{}", e.what(), path_.empty() ? "" : "; at " + path_);
  }
  g_.nodes_.push_back(std::move(n));
  return {static_cast<int32_t>(g_.nodes_.size()) - 1, 0};
}

void Builder::output(std::string name, Value v) {
  for (auto& [n, old] : g_.outputs_) {
    if (n == name) {
      old = v;
      return;
    }
  }
  g_.outputs_.emplace_back(std::move(name), v);
}

void Builder::keep_outputs(const std::vector<std::string>& names) {
  std::erase_if(g_.outputs_,
                [&](const auto& o) { return std::ranges::find(names, o.first) == names.end(); });
}

void Builder::assign(std::string param, Value v) {
  for (auto& [name, old] : g_.assignments_) {
    if (name == param) {
      old = v;
      return;
    }
  }
  g_.assignments_.emplace_back(std::move(param), v);
}

void Builder::mark(Role role, Value v) { g_.marks_.push_back({role, v, layer, path_}); }

void Builder::mark_reparametrized(std::string param, Value v) {
  std::erase_if(g_.marks_,
                [&](const Mark& m) { return m.role == Role::reparametrized && m.scope == param; });
  g_.marks_.push_back({Role::reparametrized, v, -1, std::move(param)});
}

std::vector<Use> Builder::uses(Value v) const {
  std::vector<Use> found;
  for (size_t i = 0; i < g_.nodes_.size(); ++i) {
    for (size_t k = 0; k < g_.nodes_[i].inputs.size(); ++k) {
      if (g_.nodes_[i].inputs[k] == v)
        found.push_back({static_cast<int32_t>(i), static_cast<int32_t>(k)});
    }
  }
  return found;
}

void Builder::set_input(Use use, Value v) {
  Node& n = g_.nodes_[static_cast<size_t>(use.node)];
  Value& slot = n.inputs[static_cast<size_t>(use.input)];
  if (slot == v) return;
  slot = v;
  if (use.node < base_nodes_) rewired_.insert(use);
}

void Builder::replace_uses(Value from, Value to, const std::function<bool(const Use&)>& where) {
  for (const Use& u : uses(from)) {
    if (!where || where(u)) set_input(u, to);
  }
  for (auto* named : {&g_.outputs_, &g_.assignments_}) {
    for (auto& [name, v] : *named) {
      if (v == from) v = to;
    }
  }
  for (Mark& m : g_.marks_) {
    if (m.value == from && m.role != Role::reparametrized) m.value = to;
  }
}

void Builder::replace_values(const std::function<Value(Value)>& to) {
  for (size_t i = 0; i < g_.nodes_.size(); ++i) {
    for (size_t k = 0; k < g_.nodes_[i].inputs.size(); ++k) {
      const Value v = g_.nodes_[i].inputs[k];
      if (v.valid()) set_input({static_cast<int32_t>(i), static_cast<int32_t>(k)}, to(v));
    }
  }
  for (auto* named : {&g_.outputs_, &g_.assignments_}) {
    for (auto& [name, v] : *named) v = to(v);
  }
  for (Mark& m : g_.marks_) m.value = to(m.value);
}

// f(v); where no path is set, its nodes stand where the node does.
Value Builder::standing_at(int32_t node, const std::function<Value(Builder&, Value)>& f, Value v) {
  const std::string before = path_;
  if (path_.empty()) path_ = g_.node(node).scope;
  const Value to = f(*this, v);
  path_ = before;
  return to;
}

Value Builder::insert_after(Value v, const std::function<Value(Builder&, Value)>& f) {
  const auto first_new = static_cast<int32_t>(g_.nodes_.size());
  const Value to = standing_at(v.node, f, v);
  replace_uses(v, to, [&](const Use& u) { return u.node < first_new; });
  return to;
}

Value Builder::insert_at(Use use, const std::function<Value(Builder&, Value)>& f) {
  const Value to =
      standing_at(use.node, f, g_.node(use.node).inputs[static_cast<size_t>(use.input)]);
  set_input(use, to);
  return to;
}

void Builder::drop_dead(std::vector<bool> live) { live_ = std::move(live); }

Param& Builder::param_ref(std::string_view name) {
  for (Param& p : g_.params_) {
    if (p.name == name) return p;
  }
  throw GraphError("the graph has no parameter '{}'", name);
}

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

Delta then(const Delta& first, const Delta& second) {
  Delta both;
  std::vector<int32_t> place(first.origin.size(), -1);  // of the graph between the two
  for (size_t i = 0; i < second.origin.size(); ++i) {
    const int32_t between = second.origin[i];
    if (between >= 0) place[static_cast<size_t>(between)] = static_cast<int32_t>(i);
    both.origin.push_back(between < 0 ? -1 : first.origin[static_cast<size_t>(between)]);
    if (both.origin.back() < 0) both.added.push_back(static_cast<int32_t>(i));
  }
  std::set<Use> rewired;
  for (const Use& u : first.rewired) {
    const int32_t node = place[static_cast<size_t>(u.node)];
    if (node >= 0) rewired.insert({node, u.input});
  }
  for (const Use& u : second.rewired) {
    if (both.origin[static_cast<size_t>(u.node)] >= 0) rewired.insert(u);
  }
  both.rewired.assign(rewired.begin(), rewired.end());
  both.new_params = first.new_params;
  both.new_params.insert(both.new_params.end(), second.new_params.begin(), second.new_params.end());
  both.frozen = first.frozen;
  both.unfrozen = first.unfrozen;
  // What the second one turns back, or turns on a parameter that the first one brought, is no
  // change against the base.
  const auto turn = [&](const std::string& name, std::vector<std::string>& to,
                        std::vector<std::string>& back) {
    if (std::erase(back, name) == 0 &&
        std::ranges::find(both.new_params, name) == both.new_params.end())
      to.push_back(name);
  };
  for (const std::string& name : second.frozen) turn(name, both.frozen, both.unfrozen);
  for (const std::string& name : second.unfrozen) turn(name, both.unfrozen, both.frozen);
  return both;
}

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
