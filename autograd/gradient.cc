#include "autograd/gradient.h"

#include <algorithm>

#include "autograd/ops.h"
#include "autograd/topological.h"
#include "core/error.h"

namespace graft {
namespace {

class Cotangents {
 public:
  explicit Cotangents(Builder& b) : b_(b) {}

  // Broadcast shapes are reduced here, once, not in each op.
  void add(Value v, Value g) {
    const Type type = b_.type(v);
    if (b_.shape(g) != type.shape) {
      g = b_.shape(g).elements() == type.shape.elements() ? ops::reshape(b_, g, type.shape)
                                                          : ops::sum_to(b_, g, type.shape);
    }
    if (b_.type(g).dtype != type.dtype) g = ops::cast(b_, g, type.dtype);
    const auto [it, fresh] = sums_.try_emplace(v, g);
    if (!fresh) it->second = ops::add(b_, it->second, g);
  }

  Value of(Value v) const {
    const auto it = sums_.find(v);
    return it == sums_.end() ? Value{} : it->second;
  }

 private:
  Builder& b_;
  std::map<Value, Value> sums_;
};

// Nodes in an order in which every node stands after its inputs, even when a rewrite appended nodes
// that old ones read. A sorted graph keeps its order, so backward runs through it in exact reverse.
std::vector<int32_t> topological(const std::vector<Node>& nodes) {
  Topological sort(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const Value v : nodes[i].inputs) {
      if (v.valid()) sort.add(v.node, static_cast<int32_t>(i));
    }
  }
  std::vector<int32_t> order = sort.order();
  if (order.size() != nodes.size()) throw GraphError("the graph to differentiate has a cycle");
  return order;
}

}  // namespace

std::vector<Value> gradient(Builder& b, std::span<const Value> ys,
                            std::span<const Value> cotangents, std::span<const Value> xs) {
  const std::vector<int32_t> order = topological(b.graph().nodes());
  const size_t count = order.size();

  // Which values depend on some x along a differentiable path.
  std::map<Value, bool> wanted;
  std::vector<bool> active(count, false);  // nodes with some active output
  auto is_active = [&](Value v) {
    return v.valid() && (active[static_cast<size_t>(v.node)] || wanted.contains(v)) &&
           is_float(b.type(v).dtype);
  };
  for (const Value x : xs) wanted[x] = true;
  for (int32_t id : order) {
    const Node& n = b.graph().node(id);
    if (n.op->vjp == nullptr) continue;
    active[static_cast<size_t>(id)] = std::ranges::any_of(n.inputs, is_active);
  }

  const Phase phase = std::exchange(b.phase, Phase::backward);
  const std::string path = b.path();
  Cotangents sums(b);
  for (size_t i = 0; i < ys.size(); ++i) {
    Value g = i < cotangents.size() ? cotangents[i] : Value{};
    if (!g.valid()) {
      if (b.shape(ys[i]).elements() != 1) {
        throw GraphError("a gradient without cotangent needs a scalar, got {}",
                         b.type(ys[i]).str());
      }
      g = b.constant(1, b.shape(ys[i]));
    }
    if (is_active(ys[i])) sums.add(ys[i], g);
  }

  for (size_t k = count; k-- > 0;) {
    const int32_t id = order[k];
    if (!active[static_cast<size_t>(id)]) continue;
    const Node node = b.graph().node(id);
    std::vector<Value> grads;
    bool any = false;
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      grads.push_back(sums.of({id, static_cast<int32_t>(o)}));
      any = any || grads.back().valid();
    }
    if (!any) continue;
    std::vector<bool> needs;
    for (const Value v : node.inputs) needs.push_back(is_active(v));
    b.set_path(node.scope);
    VjpCall call{b, id, node, grads, needs};
    const std::vector<Value> result = node.op->vjp(call);
    for (size_t i = 0; i < result.size(); ++i) {
      if (result[i].valid() && needs[i]) sums.add(node.inputs[i], result[i]);
    }
  }
  b.set_path(path);
  b.phase = phase;

  std::vector<Value> out;
  for (const Value x : xs) out.push_back(sums.of(x));
  return out;
}

std::map<std::string, Value> gradient(Builder& b, Value loss) {
  std::vector<std::string> names;
  std::vector<Value> xs;
  for (const Param& p : b.graph().params()) {
    if (p.trainable) names.push_back(p.name);
  }
  for (const std::string& name : names) xs.push_back(b.param_value(name));
  const std::vector<Value> grads = gradient(b, {&loss, 1}, {}, xs);
  std::map<std::string, Value> result;
  for (size_t i = 0; i < names.size(); ++i) {
    if (grads[i].valid()) result[names[i]] = grads[i];
  }
  return result;
}

}  // namespace graft
