#include "autograd/passes/cheap_forms.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "autograd/ops.h"
#include "autograd/passes/dead_code.h"

namespace graft {
namespace {

bool is_op(const Builder& b, Value v, std::string_view name) {
  return v.valid() && b.graph().node(v.node).op->name == name;
}
Value operand(const Builder& b, Value v, size_t i) { return b.graph().node(v.node).inputs[i]; }

// A weight that a file holds as [in, out] is changed as [out, in] and turned back, and the product
// turns it once more: two turns are none.
Value turned_twice(const Builder& b, Value w) {
  const auto turned = [&](Value v) { return is_op(b, v, "transpose") && b.shape(v).rank() == 2; };
  while (turned(w) && turned(operand(b, w, 0))) w = operand(b, operand(b, w, 0), 0);
  return w;
}

// s U V with a thin inner dimension.
struct LowRank {
  Value u, v;  // [out, r], [r, in]
  double scale = 1;
  int64_t rank = 0;
};

std::optional<LowRank> low_rank(const Builder& b, Value w) {
  double scale = 1;
  while (is_op(b, w, "scale")) {
    scale *= b.graph().node(w.node).attrs.as<ScalarAttrs>().value;
    w = operand(b, w, 0);
  }
  if (!is_op(b, w, "matmul")) return std::nullopt;
  const auto& a = b.graph().node(w.node).attrs.as<MatmulAttrs>();
  const Value u = operand(b, w, 0), v = operand(b, w, 1);
  if (a.tx || a.ty || b.shape(u).rank() != 2 || b.shape(v).rank() != 2) return std::nullopt;
  return LowRank{u, v, scale, b.shape(u)[1]};
}

class CheapForms {
 public:
  explicit CheapForms(const Graph& graph) : b_(graph) {}

  Graph run(Delta* delta) {
    const auto count = static_cast<int32_t>(b_.graph().nodes().size());
    for (int32_t i = 0; i < count; ++i) {
      const Node n = b_.graph().node(i);
      b_.set_path(n.scope);
      node_ = i;
      const Value y = cheap_form(n);
      if (y.valid() && y != Value{i, 0})
        b_.replace_uses({i, 0}, y, [&](const Use& u) { return u.node < count; });
    }
    b_.set_path("");
    return finish_live(b_, delta);
  }

 private:
  // What stands for the node under work; absent, or the node itself, where nothing does.
  Value cheap_form(const Node& n) {
    if (n.op->name == "mul") {
      const Value y = before_product(n.inputs[0], n.inputs[1]);
      return y.valid() ? y : before_product(n.inputs[1], n.inputs[0]);
    }
    if (n.op->name != "linear" && n.op->name != "embedding") return {};
    const Value w = turned_twice(b_, n.inputs[1]);
    if (w != n.inputs[1]) b_.set_input({node_, 1}, w);
    return n.op->name == "embedding"
               ? lookup(n.inputs[0], w, n.attrs)
               : linear(n.inputs[0], w, n.inputs.size() > 2 ? n.inputs[2] : Value{});
  }

  // Operations of a training step with the update formed (product, its gradient, the factors'
  // gradients) against the two thin products.
  bool pays(Value x, const LowRank& f) const {
    const Shape& s = b_.shape(x);
    const double n = static_cast<double>(s.product(0, s.rank() - 1)),
                 r = static_cast<double>(f.rank);
    const double out = static_cast<double>(b_.shape(f.u)[0]),
                 in = static_cast<double>(b_.shape(f.v)[1]);
    return 6 * n * r * (in + out) < 6 * out * in * r + 2 * n * in * out;
  }

  bool read_once(Value v) const {
    const auto& results = b_.graph().outputs();
    return b_.uses(v).size() == 1 &&
           std::ranges::none_of(results, [&](const auto& r) { return r.second == v; });
  }

  // c (x W^T + b) -> (c x) W^T + c b for a product wider than its operand and a factor that is one
  // for all features: there is less to multiply, and the gradient of c reads x, which that of W
  // reads anyway, and not the result. What stands between product and factor scales or drops.
  Value before_product(Value y, Value c) {
    const Shape s = b_.shape(y), factor = b_.shape(c);
    if (s != b_.shape({node_, 0}) || (factor.rank() > 0 && factor[-1] != 1)) return {};
    std::vector<Node> between;
    for (; (is_op(b_, y, "dropout") || is_op(b_, y, "scale")) && read_once(y);
         y = between.back().inputs[0])
      between.push_back(b_.graph().node(y.node));
    if (!is_op(b_, y, "linear") || !read_once(y)) return {};
    const Node n = b_.graph().node(y.node);
    if (b_.shape(n.inputs[1])[1] >= s[-1]) return {};
    const Value bias = n.inputs.size() > 2 ? n.inputs[2] : Value{};
    const Value x = ops::mul(b_, n.inputs[0], c);
    if (bias.valid() && factor.elements() == 1) {
      y = ops::linear(b_, x, n.inputs[1], ops::mul(b_, bias, ops::reshape(b_, c, {1})));
    } else {
      y = ops::linear(b_, x, n.inputs[1]);
      if (bias.valid()) y = ops::add(b_, y, ops::mul(b_, bias, c));
    }
    for (size_t k = between.size(); k-- > 0;) {
      std::vector<Value> in = between[k].inputs;
      in[0] = y;
      y = b_.node(between[k].op->name, in, between[k].attrs);
    }
    return y;
  }

  // The cheap form of linear(x, w, bias), or an absent value where w has none.
  Value linear(Value x, Value w, Value bias) {
    w = turned_twice(b_, w);
    if (is_op(b_, w, "add")) {
      for (size_t side : {1u, 0u}) {
        const auto f = low_rank(b_, operand(b_, w, side));
        if (!f || !pays(x, *f)) continue;
        const Value base = plain(x, operand(b_, w, 1 - side), bias);
        const Value thin = ops::linear(b_, ops::linear(b_, x, f->v), f->u);
        return ops::add(b_, base, ops::scale(b_, thin, f->scale));
      }
    }
    if (is_op(b_, w, "mul")) {
      const Shape s = b_.shape(w);
      for (size_t side : {1u, 0u}) {
        const Value c = operand(b_, w, side), rest = operand(b_, w, 1 - side);
        if (b_.shape(rest) != s) continue;
        if (b_.shape(c) == Shape{s[0], 1}) {  // diag(c) W
          const Value y = ops::mul(b_, plain(x, rest, {}), ops::reshape(b_, c, {s[0]}));
          return bias.valid() ? ops::add(b_, y, bias) : y;
        }
        if (b_.shape(c) == Shape{1, s[1]}) {  // W diag(c)
          return plain(ops::mul(b_, x, ops::reshape(b_, c, {s[1]})), rest, bias);
        }
      }
    }
    return {};
  }

  Value plain(Value x, Value w, Value bias) {
    const Value cheap = linear(x, w, bias);
    return cheap.valid() ? cheap : base_node({x, turned_twice(b_, w), bias});
  }

  Value lookup(Value ids, Value w, const Attrs& attrs) {
    if (is_op(b_, w, "add")) {
      for (size_t side : {1u, 0u}) {
        const auto f = low_rank(b_, operand(b_, w, side));
        if (!f) continue;
        const Value base = plain_lookup(ids, operand(b_, w, 1 - side), attrs);
        const Value thin = ops::matmul(b_, b_.node("embedding", {ids, f->u}, attrs), f->v);
        return ops::add(b_, base, ops::scale(b_, thin, f->scale));
      }
    }
    if (is_op(b_, w, "mul")) {
      const Shape s = b_.shape(w);
      for (size_t side : {1u, 0u}) {
        const Value c = operand(b_, w, side);
        if (b_.shape(c) == Shape{1, s[1]} && b_.shape(operand(b_, w, 1 - side)) == s) {
          return ops::mul(b_, plain_lookup(ids, operand(b_, w, 1 - side), attrs),
                          ops::reshape(b_, c, {s[1]}));
        }
      }
    }
    return {};
  }

  Value plain_lookup(Value ids, Value w, const Attrs& attrs) {
    const Value cheap = lookup(ids, w, attrs);
    return cheap.valid() ? cheap : base_node({ids, w});
  }

  // The node under work, with other operands: the product or lookup of the base model stays itself.
  Value base_node(std::initializer_list<Value> operands) {
    int32_t i = 0;
    for (const Value v : operands) {
      if (static_cast<size_t>(i) < b_.graph().node(node_).inputs.size())
        b_.set_input({node_, i}, v);
      ++i;
    }
    return {node_, 0};
  }

  Builder b_;
  int32_t node_ = -1;
};

}  // namespace

Graph cheap_forms(const Graph& graph, Delta* delta) { return CheapForms(graph).run(delta); }

}  // namespace graft
