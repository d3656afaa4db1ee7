#include "autograd/builder.h"

#include <algorithm>

#include "core/error.h"

namespace graft {

Builder::Builder(const Graph& base)
    : g_(base), base_nodes_(static_cast<int32_t>(base.nodes().size())) {
  readers_.resize(base.nodes().size());
  for (int32_t i = 0; i < base_nodes_; ++i) {
    const Node& n = g_.node(i);
    enter_readers(i);
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
  const auto id = static_cast<int32_t>(g_.nodes_.size());
  g_.nodes_.push_back(std::move(n));
  readers_.emplace_back();
  enter_readers(id);
  return {id, 0};
}

void Builder::enter_readers(int32_t node) {
  const std::vector<Value>& inputs = g_.node(node).inputs;
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (inputs[k].valid())
      readers_[static_cast<size_t>(inputs[k].node)].push_back({node, static_cast<int32_t>(k)});
  }
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
  for (const Use& u : readers_[static_cast<size_t>(v.node)]) {
    if (g_.node(u.node).inputs[static_cast<size_t>(u.input)] == v) found.push_back(u);
  }
  return found;
}

void Builder::set_input(Use use, Value v) {
  Node& n = g_.nodes_[static_cast<size_t>(use.node)];
  Value& slot = n.inputs[static_cast<size_t>(use.input)];
  if (slot == v) return;
  if (slot.valid()) {
    std::vector<Use>& left = readers_[static_cast<size_t>(slot.node)];
    left.erase(std::ranges::lower_bound(left, use));
  }
  if (v.valid()) {
    std::vector<Use>& joined = readers_[static_cast<size_t>(v.node)];
    joined.insert(std::ranges::lower_bound(joined, use), use);
  }
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

}  // namespace graft
