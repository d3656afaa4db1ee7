#include "autograd/plan/schedule_file.h"

#include <map>
#include <set>

#include "autograd/op.h"
#include "autograd/plan/order.h"
#include "core/error.h"

namespace graft {
namespace {

class Writer {
 public:
  explicit Writer(const Program& program) : p_(program), g_(program.graph) {}

  Json file() {
    if (!g_.has_output("loss"))
      throw GraphError("only a training step has a schedule: the program has no result 'loss'");
    for (const auto& [v, role] : roles()) role_of_[v] = role;
    list_buffers();
    for (size_t i = 0; i < g_.nodes().size(); ++i) {
      const Node& n = g_.nodes()[i];
      if (is_leaf(n) || p_.once[i]) begin_with(static_cast<int32_t>(i));
    }
    for (const Program::Step& step : p_.steps) add(step);
    return {{"format", 1},
            {"arena_bytes", p_.arena_bytes},
            {"peak_bytes", p_.peak_bytes()},
            {"persistent_bytes", p_.persistent_bytes},
            {"forward_flops", forward_flops_},
            {"recompute_flops", p_.recompute_flops},
            {"step_flops", p_.flops},
            {"buffers", buffers_},
            {"values", values_},
            {"nodes", nodes_},
            {"steps", steps_},
            {"loss", value(g_.output("loss"))}};
  }

 private:
  std::map<Value, std::string_view> roles() const {
    std::map<Value, std::string_view> all;
    for (const Mark& m : g_.marks()) all.emplace(m.value, name_of(m.role));
    return all;
  }

  const char* kind_of(const Program::Buffer& b) const {
    switch (b.kind) {
      case Program::Kind::arena:
        return "arena";
      case Program::Kind::workspace:
        return "workspace";
      case Program::Kind::input:
        return "input";
      case Program::Kind::derived:
        return "weight";
      case Program::Kind::param: {
        const Param& p = g_.param(b.name);
        return p.kind == Param::Kind::state ? "optimizer"
               : p.adapter.empty()          ? "weight"
                                            : "adapter";
      }
      case Program::Kind::source:
      case Program::Kind::passing:
        break;
    }
    return nullptr;  // no memory of a run
  }

  // Leaves of one name are one buffer.
  void list_buffers() {
    std::map<std::string, int32_t> by_name;
    id_of_buffer_.assign(p_.buffers.size(), -1);
    for (size_t b = 0; b < p_.buffers.size(); ++b) {
      const Program::Buffer& buffer = p_.buffers[b];
      const char* const kind = kind_of(buffer);
      if (kind == nullptr) continue;
      const auto fresh = static_cast<int32_t>(buffers_.size());
      int32_t& id = id_of_buffer_[b];
      id = buffer.name.empty() ? fresh : by_name.try_emplace(buffer.name, fresh).first->second;
      if (id != fresh) continue;
      buffers_.push_back(
          {{"id", id}, {"bytes", buffer.bytes}, {"offset", buffer.offset}, {"kind", kind}});
    }
  }

  int32_t buffer_of(Value v) const {
    const int32_t b = p_.place[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
    return b < 0 ? -1 : id_of_buffer_[static_cast<size_t>(b)];
  }

  int32_t new_value(std::string_view name, const Type& type, std::string_view role) {
    const auto id = static_cast<int32_t>(values_.size());
    const auto dims = type.shape.dims();
    values_.push_back({{"id", id},
                       {"name", name},
                       {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                       {"dtype", name_of(type.dtype)},
                       {"bytes", type.bytes()},
                       {"role", role}});
    return id;
  }

  int32_t value(Value v) {
    const auto [it, fresh] = id_of_value_.try_emplace(v, 0);
    if (!fresh) return it->second;
    const Node& n = g_.node(v.node);
    const auto role = role_of_.find(v);
    return it->second = new_value(is_leaf(n) ? n.attrs.as<NameAttrs>().name : n.scope, g_.type(v),
                                  role == role_of_.end() ? "" : role->second);
  }

  Json node_json(std::string_view op, std::string_view path, std::string_view phase, Json inputs,
                 Json outputs, Json workspace, double flops) {
    return {{"id", nodes_.size()},    {"op", op},         {"path", path},
            {"phase", phase},         {"inputs", inputs}, {"outputs", outputs},
            {"workspace", workspace}, {"flops", flops}};
  }

  // What is there before a run.
  void begin_with(int32_t id) {
    const Node& n = g_.node(id);
    Json outputs = Json::array();
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const Value v{id, static_cast<int32_t>(k)};
      const int32_t b = buffer_of(v);
      if (b < 0) continue;
      // A second leaf of the same name stands beside the first.
      const bool alias = !filled_.insert(b).second;
      outputs.push_back({{"value", value(v)}, {"buffer", b}, {"alias", alias}});
    }
    if (outputs.empty()) return;
    steps_.push_back({{"run", nodes_.size()}});
    nodes_.push_back(node_json(n.op->name, n.scope, "forward", Json::array(), std::move(outputs),
                               Json::array(), 0));
  }

  int32_t node(int32_t id) {
    const auto [it, fresh] = id_of_node_.try_emplace(id, static_cast<int32_t>(nodes_.size()));
    if (!fresh) return it->second;
    const Node& n = g_.node(id);
    Json inputs = Json::array(), outputs = Json::array(), workspace = Json::array();
    for (const Value v : n.inputs) {
      if (v.valid()) inputs.push_back(value(v));
    }
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const Value v{id, static_cast<int32_t>(k)};
      outputs.push_back(
          {{"value", value(v)}, {"buffer", buffer_of(v)}, {"alias", n.op->view_of >= 0}});
    }
    if (const int32_t w = p_.workspace[static_cast<size_t>(id)]; w >= 0)
      workspace.push_back(id_of_buffer_[static_cast<size_t>(w)]);
    const double flops = cost_of(g_, n).flops;
    if (n.phase == Phase::forward) forward_flops_ += flops;
    nodes_.push_back(node_json(n.op->name, n.scope, name_of(n.phase), std::move(inputs),
                               std::move(outputs), std::move(workspace), flops));
    return it->second;
  }

  void add(const Program::Step& step) {
    switch (step.action) {
      case Program::Action::run:
      case Program::Action::recompute:
        steps_.push_back({{"run", node(step.node)}});
        break;
      case Program::Action::free:
        steps_.push_back({{"free", id_of_buffer_[static_cast<size_t>(step.buffer)]}});
        break;
      case Program::Action::write: {
        const auto& [name, v] = g_.assignments()[static_cast<size_t>(step.node)];
        const Value leaf = g_.param_value(name);
        if (!leaf.valid()) break;  // nothing reads it: it is no memory of the run
        const int32_t to = buffer_of(leaf);
        const Json out = {
            {"value", new_value(name, g_.type(v), "")}, {"buffer", to}, {"alias", false}};
        steps_.push_back({{"run", nodes_.size()}});
        nodes_.push_back(
            node_json("write", name, "update", {value(v)}, Json::array({out}), Json::array(), 0));
        break;
      }
    }
  }

  const Program& p_;
  const Graph& g_;
  Json buffers_ = Json::array(), values_ = Json::array(), nodes_ = Json::array(),
       steps_ = Json::array();
  std::vector<int32_t> id_of_buffer_;
  std::map<Value, int32_t> id_of_value_;
  std::map<int32_t, int32_t> id_of_node_;
  std::map<Value, std::string_view> role_of_;
  std::set<int32_t> filled_;
  double forward_flops_ = 0;
};

}  // namespace

Json schedule_json(const Program& program) { return Writer(program).file(); }

}  // namespace graft
