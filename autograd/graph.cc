#include "autograd/graph.h"

#include <array>
#include <cmath>
#include <set>

#include "autograd/op.h"
#include "core/error.h"

namespace graft {

std::string Type::str() const { return std::string(name_of(dtype)) + shape.str(); }

std::string_view name_of(Phase phase) {
  return phase == Phase::forward ? "forward" : phase == Phase::backward ? "backward" : "update";
}

std::string_view name_of(Role role) {
  static constexpr std::array<std::string_view, 20> kNames = {"embedding.tokens",
                                                              "embedding.output",
                                                              "block.input",
                                                              "attention.query",
                                                              "attention.key",
                                                              "attention.value",
                                                              "attention.scores",
                                                              "attention.context",
                                                              "attention.output",
                                                              "attention.block_output",
                                                              "mlp.up",
                                                              "mlp.gate",
                                                              "mlp.activation",
                                                              "mlp.down",
                                                              "mlp.block_output",
                                                              "norm",
                                                              "block.output",
                                                              "final.hidden",
                                                              "head",
                                                              "reparametrized"};
  return kNames[static_cast<size_t>(role)];
}

Init Init::kaiming_uniform5(int64_t fan_in) {
  const double limit = 1 / std::sqrt(static_cast<double>(fan_in));
  return uniform(-limit, limit);
}
Init Init::kaiming_uniform0(int64_t fan_in) {
  const double limit = std::sqrt(6 / static_cast<double>(fan_in));
  return uniform(-limit, limit);
}
Init Init::xavier_uniform(int64_t fan_in, int64_t fan_out, double gain) {
  const double limit = gain * std::sqrt(6 / static_cast<double>(fan_in + fan_out));
  return uniform(-limit, limit);
}
Init Init::xavier_normal(int64_t fan_in, int64_t fan_out, double gain) {
  return normal(gain * std::sqrt(2 / static_cast<double>(fan_in + fan_out)));
}

const Param* Graph::find_param(std::string_view name) const {
  for (const Param& p : params_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

const Param& Graph::param(std::string_view name) const {
  const Param* p = find_param(name);
  if (p == nullptr) throw GraphError("the graph has no parameter '{}'", name);
  return *p;
}

namespace {
Value find_leaf(const std::vector<Node>& nodes, std::string_view op, std::string_view name) {
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].op->name == op && nodes[i].attrs.as<NameAttrs>().name == name) {
      return {static_cast<int32_t>(i), 0};
    }
  }
  return {};
}
}  // namespace

Value Graph::param_value(std::string_view name) const { return find_leaf(nodes_, "param", name); }
Value Graph::input(std::string_view name) const { return find_leaf(nodes_, "input", name); }

std::vector<std::string> Graph::input_names() const {
  std::vector<std::string> names;
  for (const Node& n : nodes_) {
    if (n.op->name == "input") names.push_back(n.attrs.as<NameAttrs>().name);
  }
  return names;
}

bool Graph::has_output(std::string_view name) const {
  for (const auto& [n, v] : outputs_) {
    if (n == name) return true;
  }
  return false;
}

Value Graph::output(std::string_view name) const {
  std::string known;
  for (const auto& [n, v] : outputs_) {
    if (n == name) return v;
    known += (known.empty() ? "" : ", ") + n;
  }
  throw GraphError("the graph has no output '{}'; it has: {}", name, known);
}

std::vector<Value> Graph::results() const {
  std::vector<Value> all;
  for (const auto* named : {&outputs_, &assignments_}) {
    for (const auto& [name, v] : *named) all.push_back(v);
  }
  return all;
}

std::vector<Mark> Graph::marks(Role role) const {
  std::vector<Mark> found;
  for (const Mark& m : marks_) {
    if (m.role == role) found.push_back(m);
  }
  return found;
}

Uses::Uses(const std::vector<Node>& nodes) {
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (size_t k = 0; k < nodes[i].inputs.size(); ++k) {
      const Value v = nodes[i].inputs[k];
      if (v.valid()) uses_[v].push_back({static_cast<int32_t>(i), static_cast<int32_t>(k)});
    }
  }
}

const std::vector<Use>& Uses::of(Value v) const {
  static const std::vector<Use> none;
  const auto it = uses_.find(v);
  return it == uses_.end() ? none : it->second;
}

std::string describe_node(const Graph& graph, int32_t id) {
  const Node& n = graph.node(id);
  std::string text = fmt::format("%{} = {}(", id, n.op->name);
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    const Value v = n.inputs[i];
    if (i > 0) text += ", ";
    if (!v.valid()) {
      text += "-";
    } else {
      text += v.output == 0 ? fmt::format("%{}", v.node) : fmt::format("%{}.{}", v.node, v.output);
    }
  }
  text += ")";
  if (!n.attrs.str().empty()) text += " {" + n.attrs.str() + "}";
  for (size_t i = 0; i < n.outputs.size(); ++i)
    text += (i == 0 ? " : " : ", ") + n.outputs[i].str();
  if (!n.scope.empty()) text += "  @ " + n.scope;
  return text;
}

std::string to_text(const Graph& graph, const Margin& margin) {
  std::string text;
  const auto line = [&](std::string_view rest, const Param* param = nullptr, int32_t node = -1) {
    text += fmt::format("{}{}\n", margin ? margin(param, node) : "", rest);
  };
  for (const Param& p : graph.params()) {
    line(fmt::format("param {} : {}{}{}{}", p.name, p.type.str(),
                     p.trainable ? " trainable" : " frozen",
                     p.kind == Param::Kind::state ? " state" : "",
                     p.adapter.empty() ? "" : " of " + p.adapter),
         &p);
  }
  Phase phase = Phase::forward;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    if (graph.nodes()[i].phase != phase) {
      phase = graph.nodes()[i].phase;
      line(fmt::format("--- {}", name_of(phase)));
    }
    const auto id = static_cast<int32_t>(i);
    line(describe_node(graph, id), nullptr, id);
  }
  auto place = [](Value v) {
    return v.output == 0 ? fmt::format("%{}", v.node) : fmt::format("%{}.{}", v.node, v.output);
  };
  for (const auto& [name, v] : graph.outputs()) line(fmt::format("output {} = {}", name, place(v)));
  for (const auto& [name, v] : graph.assignments())
    line(fmt::format("assign {} = {}", name, place(v)));
  return text;
}

void verify(const Graph& graph) {
  std::set<std::string> names;
  for (const Param& p : graph.params()) {
    if (!names.insert(p.name).second) throw GraphError("parameter '{}' is declared twice", p.name);
    if (p.trainable && (p.kind == Param::Kind::state || !is_float(p.type.dtype))) {
      throw GraphError("parameter '{}' of type {} cannot be trainable", p.name, p.type.str());
    }
  }
  auto check_value = [&](Value v, const std::string& where, int32_t before) {
    if (v.node < 0 || v.node >= before || v.output < 0 ||
        static_cast<size_t>(v.output) >= graph.node(v.node).outputs.size()) {
      throw GraphError("{} reads %{}.{}, which does not exist before it", where, v.node, v.output);
    }
  };
  const auto count = static_cast<int32_t>(graph.nodes().size());
  for (int32_t i = 0; i < count; ++i) {
    const Node& n = graph.node(i);
    std::vector<std::optional<Type>> types;
    for (const Value v : n.inputs) {
      if (v.valid()) {
        check_value(v, describe_node(graph, i), i);
        types.emplace_back(graph.type(v));
      } else {
        types.emplace_back(std::nullopt);
      }
    }
    const std::vector<Type> derived = infer_types(*n.op, n.attrs, types);
    if (derived != n.outputs) {
      throw GraphError("{}: the types recorded are not those that its operands give",
                       describe_node(graph, i));
    }
    if (n.op->name == "param") {
      const auto& a = n.attrs.as<NameAttrs>();
      const Param& p = graph.param(a.name);
      if (p.type != n.outputs[0]) {
        throw GraphError("parameter '{}' is declared as {} but read as {}", a.name, p.type.str(),
                         n.outputs[0].str());
      }
    }
  }
  for (const auto& [name, v] : graph.outputs()) check_value(v, "output " + name, count);
  for (const auto& [name, v] : graph.assignments()) {
    check_value(v, "assignment to " + name, count);
    if (graph.param(name).type != graph.type(v)) {
      throw GraphError("parameter '{}' of type {} is assigned a value of type {}", name,
                       graph.param(name).type.str(), graph.type(v).str());
    }
  }
}

}  // namespace graft
