#include "autograd/passes/fuse_products.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "autograd/ops.h"
#include "autograd/passes/dead_code.h"

namespace graft {
namespace {

// linear, linear_dx and fused_linear in one form.
struct Product {
  int32_t node = -1;
  Value x, w, bias, base;
  FusedLinearAttrs attrs;
  std::string scope;
};

class FuseProducts {
 public:
  explicit FuseProducts(const Graph& graph) : b_(graph) {}

  Graph run() {
    const auto count = static_cast<int32_t>(b_.graph().nodes().size());
    for (int32_t i = 0; i < count; ++i) {
      const Node n = b_.graph().node(i);
      b_.phase = n.phase;
      b_.part = n.part;
      if (n.op->name == "linear" || n.op->name == "linear_dx") {
        take_factor_of_x(i);
      } else if (n.op->name == "matmul") {
        move_factor_out(i, n);
      } else if (n.op->name == "scale") {
        take_factor(i, n);
      } else if (n.op->name == "add") {
        take_sum(i, n);
      } else if (is_activation(n.op->name)) {
        take_activation(i, n);
      }
    }
    return finish_live(b_, nullptr, UnusedInputs::keep);
  }

 private:
  static bool is_activation(std::string_view op) {
    return op == "relu" || op == "gelu_erf" || op == "gelu_tanh" || op == "silu" || op == "tanh";
  }

  // ---- looking at the graph. Nodes that a rewrite left without a reader do not count as readers.
  bool read_once(Value v) const {
    const auto here = [&](const auto& named) { return named.second == v; };
    const Graph& g = b_.graph();
    if (std::ranges::any_of(g.outputs(), here) || std::ranges::any_of(g.assignments(), here)) {
      return false;
    }
    return std::ranges::count_if(b_.uses(v),
                                 [&](const Use& u) { return !gone_.contains(u.node); }) == 1;
  }

  // What a value is a reshaped view of.
  Value behind_views(Value v) const {
    while (b_.graph().node(v.node).op->name == "reshape") v = b_.graph().node(v.node).inputs[0];
    return v;
  }

  std::optional<Product> product_at(Value v) const {
    const Node& n = b_.graph().node(v.node);
    const auto input = [&](size_t i) { return i < n.inputs.size() ? n.inputs[i] : Value{}; };
    const bool fused = n.op->name == "fused_linear", backward = n.op->name == "linear_dx";
    if (!fused && !backward && n.op->name != "linear") return std::nullopt;
    std::optional<Product> found(std::in_place);
    Product& p = *found;
    p.node = v.node;
    p.x = input(0), p.w = input(1), p.bias = input(2), p.base = input(3);
    p.scope = n.scope;
    if (fused) {
      p.attrs = n.attrs.as<FusedLinearAttrs>();
    } else {
      p.attrs.out = b_.shape(p.w)[0];
      p.attrs.in = b_.shape(p.w)[1];
      p.attrs.backward = backward;
    }
    return found;
  }

  // The product behind the views of v, if nobody else reads it and it has no activation yet.
  std::optional<Product> own_product(Value v) const {
    for (Value at = v;; at = b_.graph().node(at.node).inputs[0]) {
      if (!read_once(at)) return std::nullopt;
      if (b_.graph().node(at.node).op->name == "reshape") continue;
      auto p = product_at(at);
      return p && p->attrs.activation.empty() ? p : std::nullopt;
    }
  }

  // ---- rewriting
  Value build(const Product& p) {
    b_.set_path(p.scope);
    const Value y = b_.node("fused_linear", {p.x, p.w, p.bias, p.base}, Attrs::of(p.attrs));
    b_.set_path("");
    gone_.insert(p.node);
    return y;
  }
  Value shaped(Value v, const Shape& shape) {
    return b_.shape(v) == shape ? v : ops::reshape(b_, v, shape);
  }
  void replace(int32_t node, Value by) {
    stands_for_[behind_views(by).node] = node;
    b_.replace_uses({node, 0}, shaped(by, b_.shape({node, 0})));
    gone_.insert(node);
  }
  // v and the views between it and a node that is gone.
  void drop_views(Value v) {
    for (; b_.graph().node(v.node).op->name == "reshape"; v = b_.graph().node(v.node).inputs[0]) {
      gone_.insert(v.node);
    }
  }

  double factor_of(Value v) const { return b_.graph().node(v.node).attrs.as<ScalarAttrs>().value; }
  bool is_scaled(Value v) const { return b_.graph().node(v.node).op->name == "scale"; }

  // (s x) W^T
  void take_factor_of_x(int32_t node) {
    Product p = *product_at({node, 0});
    const Value x = behind_views(p.x);
    if (!is_scaled(x)) return;
    p.attrs.scale *= factor_of(x);
    p.x = shaped(b_.graph().node(x.node).inputs[0], b_.shape(p.x));
    replace(node, build(p));
  }

  // (s x) y = s (x y), where there is less of x y than of x: gradients of low-rank factors.
  void move_factor_out(int32_t node, const Node& n) {
    const Value x = behind_views(n.inputs[0]);
    if (!is_scaled(x) || n.outputs[0].shape.elements() > b_.shape(x).elements()) return;
    b_.set_path(n.scope);
    const Value plain = shaped(b_.graph().node(x.node).inputs[0], b_.shape(n.inputs[0]));
    const Value product = b_.node("matmul", {plain, n.inputs[1]}, n.attrs);
    replace(node, ops::scale(b_, product, factor_of(x)));
    b_.set_path("");
  }

  // s (x W^T)
  void take_factor(int32_t node, const Node& n) {
    auto p = own_product(n.inputs[0]);
    if (!p || p->bias.valid() || p->base.valid()) return;
    p->attrs.scale *= n.attrs.as<ScalarAttrs>().value;
    drop_views(n.inputs[0]);
    replace(node, build(*p));
  }

  // The product, or the one that it starts from, starts from `base`.
  std::optional<Product> starting_from(Product p, Value base) {
    const Shape shape = b_.shape({p.node, 0});
    if (!p.base.valid()) {
      p.base = shaped(base, shape);
      return p;
    }
    const auto inner = own_product(p.base);
    if (!inner) return std::nullopt;
    const auto started = starting_from(*inner, base);
    if (!started) return std::nullopt;
    drop_views(p.base);
    p.base = shaped(build(*started), shape);
    return p;
  }

  // The node of the graph as it was whose result this is.
  int32_t computed_at(Value v) const {
    int32_t node = behind_views(v).node;
    for (auto it = stands_for_.find(node); it != stands_for_.end(); it = stands_for_.find(node))
      node = it->second;
    return node;
  }

  // x W^T + y. Of two products the later one starts from the other.
  void take_sum(int32_t node, const Node& n) {
    if (b_.type(n.inputs[0]) != b_.type(n.inputs[1]) || n.inputs[0] == n.inputs[1]) return;
    std::optional<Product> found[2] = {own_product(n.inputs[0]), own_product(n.inputs[1])};
    const bool second_first =
        !found[0] || (found[1] && computed_at(n.inputs[1]) > computed_at(n.inputs[0]));
    for (const size_t side : {second_first ? 1u : 0u, second_first ? 0u : 1u}) {
      if (!found[side]) continue;
      const auto p = starting_from(*found[side], n.inputs[1 - side]);
      if (!p) continue;
      drop_views(n.inputs[side]);
      replace(node, build(*p));
      return;
    }
  }

  // act(x W^T + ...). The gradient of the activation may want what entered it.
  void take_activation(int32_t node, const Node& n) {
    const Value pre = n.inputs[0];
    auto p = product_at(pre);
    // What enters it is kept where backward reads it; then the activation is computed again there,
    // which it could not be inside the product.
    if (!p || !p->attrs.activation.empty() || !read_once(pre)) return;
    p->attrs.activation = n.op->name;
    replace(node, build(*p));
  }

  Builder b_;
  std::set<int32_t> gone_;
  std::map<int32_t, int32_t> stands_for_;  // by a rewrite: for the node that it replaced
};

}  // namespace

Graph fuse_products(const Graph& graph) { return FuseProducts(graph).run(); }

}  // namespace graft
