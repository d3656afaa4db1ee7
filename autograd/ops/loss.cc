// Losses. cross_entropy returns the loss and, for backward, needs nothing but its own inputs.
#include <cmath>

#include "autograd/ops.h"
#include "autograd/ops/families.h"
#include "core/error.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

void check_reduction(const InferCall& c, const std::string& r) {
  c.expect(r == "none" || r == "mean" || r == "sum", "the reduction must be none, mean or sum");
}

std::vector<Type> infer_cross_entropy(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect_int(1);
  check_reduction(c, c.attr<LossAttrs>().reduction);
  c.expect(c.shape(0).rank() == 2 && c.shape(1) == Shape{c.shape(0)[0]},
           "logits must be [N, C] and target [N]");
  return {{c.dtype(0), c.attr<LossAttrs>().reduction == "none" ? c.shape(1) : Shape{}}};
}

std::vector<Type> infer_cross_entropy_backward(const InferCall& c) {  // dout, logits, target
  c.expect_arity(3, 3);
  c.expect_float(0);
  c.expect_float(1);
  c.expect_int(2);
  check_reduction(c, c.attr<LossAttrs>().reduction);
  c.expect(c.shape(1).rank() == 2 && c.shape(2) == Shape{c.shape(1)[0]},
           "logits must be [N, C] and target [N]");
  c.expect(c.shape(0) == (c.attr<LossAttrs>().reduction == "none" ? c.shape(2) : Shape{}),
           "dout must be as the loss");
  return {c.in(1)};
}

std::vector<Type> infer_bce(const InferCall& c) {  // x, y, pos_weight?: elementwise
  c.expect_arity(2, 3);
  c.expect_float(0);
  c.expect(c.in(0) == c.in(1), "logits and targets must have one type and shape");
  if (c.has(2))
    c.expect(broadcasts_to(c.shape(2), c.shape(0)), "pos_weight must broadcast to the logits");
  return {c.in(0)};
}

std::vector<Type> infer_bce_backward(const InferCall& c) {  // dout, x, y, pos_weight?
  c.expect_arity(3, 4);
  c.expect_float(0);
  c.expect(c.in(0) == c.in(1) && c.in(1) == c.in(2), "dout, logits and targets must be alike");
  if (c.has(3))
    c.expect(broadcasts_to(c.shape(3), c.shape(1)), "pos_weight must broadcast to the logits");
  return {c.in(1)};
}

Values vjp_cross_entropy(VjpCall& c) {
  return {c.b.node("cross_entropy_backward", {c.grad(), c.in(0), c.in(1)}, c.node.attrs)};
}

Values vjp_bce(VjpCall& c) {
  Values g(c.node.inputs.size());
  if (c.need(0)) {
    Values in{c.grad(), c.in(0), c.in(1)};
    if (c.in(2).valid()) in.push_back(c.in(2));
    g[0] = c.b.node("bce_backward", in);
  }
  // loss = (1 - y) x + (1 + (w - 1) y) softplus(-x): d/dy = -x + (w - 1) softplus(-x)
  if (c.need(1)) {
    Value slope = neg(c.b, c.in(0));
    if (c.in(2).valid()) {
      slope =
          add(c.b, slope, mul(c.b, add_scalar(c.b, c.in(2), -1), softplus(c.b, neg(c.b, c.in(0)))));
    }
    g[1] = mul(c.b, c.grad(), slope);
  }
  if (c.need(2)) g[2] = mul(c.b, c.grad(), mul(c.b, c.in(1), softplus(c.b, neg(c.b, c.in(0)))));
  return g;
}

// ---- a linear layer and the cross entropy of its results, which are never there all at once
struct Head {  // operands from `first` on: x, w, target
  int64_t rows, classes;
};

Head check_head(const InferCall& c, size_t first, size_t bias) {
  const auto& a = c.attr<HeadLossAttrs>();
  check_reduction(c, a.reduction);
  c.expect(a.softcap >= 0 && std::isfinite(a.softcap), "softcap must be positive, or 0 for none");
  c.expect_float(first);
  c.expect_float(first + 1);
  c.expect_int(first + 2);
  const Shape &x = c.shape(first), &w = c.shape(first + 1);
  c.expect(x.rank() == 2 && w.rank() == 2 && x[1] == w[1], "x must be [N, C] and w [V, C]");
  c.expect(c.shape(first + 2) == Shape{x[0]}, "target must be [N]");
  if (c.has(bias)) c.expect(c.in(bias) == Type{c.dtype(first), {w[0]}}, "bias must be [V]");
  return {x[0], w[0]};
}

// The loss, and of each row of logits the largest and the logarithm of sum exp(logit - largest).
std::vector<Type> infer_linear_cross_entropy(const InferCall& c) {  // x, w, target, bias?
  c.expect_arity(3, 4);
  const Head h = check_head(c, 0, 3);
  const bool none = c.attr<HeadLossAttrs>().reduction == "none";
  return {{c.dtype(0), none ? Shape{h.rows} : Shape{}}, {c.dtype(0), {h.rows, 2}}};
}

// dout, x, w, target, statistics, bias?
std::vector<Type> infer_linear_cross_entropy_backward(const InferCall& c) {
  c.expect_arity(5, 6);
  const Head h = check_head(c, 1, 5);
  const auto& a = c.attr<HeadLossAttrs>();
  const DType d = c.dtype(1);
  c.expect(c.in(0) == Type{d, a.reduction == "none" ? Shape{h.rows} : Shape{}},
           "dout must be as the loss");
  c.expect(c.in(4) == Type{d, {h.rows, 2}}, "statistics must be those of linear_cross_entropy");
  const Type nothing{d, {0}};
  return {a.need_dx ? c.in(1) : nothing, a.need_dw ? c.in(2) : nothing,
          a.need_dbias ? Type{d, {h.classes}} : nothing};
}

Values vjp_linear_cross_entropy(VjpCall& c) {
  if (c.grads.size() > 1 && c.grad(1).valid()) {
    throw GraphError("the row statistics of linear_cross_entropy at '{}' have no gradient",
                     c.node.scope);
  }
  auto a = c.attr<HeadLossAttrs>();
  a.need_dx = c.need(0);
  a.need_dw = c.need(1);
  a.need_dbias = c.need(3);
  const Value g = c.b.node("linear_cross_entropy_backward",
                           {c.grad(), c.in(0), c.in(1), c.in(2), c.out(1), c.in(3)}, Attrs::of(a));
  Values out(4);
  if (a.need_dx) out[0] = {g.node, 0};
  if (a.need_dw) out[1] = {g.node, 1};
  if (a.need_dbias) out[3] = {g.node, 2};
  return out;
}

double head_product(const Type& x, const Type& w) {
  return 2.0 * static_cast<double>(x.shape.elements()) * static_cast<double>(w.shape[0]);
}
double linear_cross_entropy_flops(std::span<const Type> in, std::span<const Type>, const Attrs&) {
  return head_product(in[0], in[1]);
}
double linear_cross_entropy_backward_flops(std::span<const Type> in, std::span<const Type>,
                                           const Attrs& attrs) {
  const auto& a = attrs.as<HeadLossAttrs>();
  return (1 + a.need_dx + a.need_dw) * head_product(in[1], in[2]);
}

constexpr OpDef kOps[] = {
    {.name = "cross_entropy", .infer = infer_cross_entropy, .vjp = vjp_cross_entropy},
    {.name = "cross_entropy_backward", .infer = infer_cross_entropy_backward},
    {.name = "linear_cross_entropy",
     .infer = infer_linear_cross_entropy,
     .vjp = vjp_linear_cross_entropy,
     .flops = linear_cross_entropy_flops,
     .costly = true},
    {.name = "linear_cross_entropy_backward",
     .infer = infer_linear_cross_entropy_backward,
     .flops = linear_cross_entropy_backward_flops,
     .costly = true},
    {.name = "bce", .infer = infer_bce, .vjp = vjp_bce, .in_place = 3},
    {.name = "bce_backward", .infer = infer_bce_backward, .in_place = 3},
};

Value reduced(Builder& b, Value x, const std::string& reduction) {
  if (reduction == "mean") return mean(b, x);
  if (reduction == "sum") return sum(b, x);
  if (reduction != "none")
    throw UsageError("there is no reduction '{}'; known: none, mean, sum", reduction);
  return x;
}

}  // namespace

Family loss_ops() { return kOps; }

Value cross_entropy(Builder& b, Value logits, Value target, const std::string& reduction,
                    int64_t ignore_index, double label_smoothing) {
  return b.node("cross_entropy", {logits, target},
                Attrs::of(LossAttrs{reduction, ignore_index, label_smoothing}));
}

Value linear_cross_entropy(Builder& b, Value x, Value w, Value bias, Value target,
                           const HeadLossAttrs& attrs) {
  return b.node("linear_cross_entropy", {x, w, target, bias}, Attrs::of(attrs));
}

Value mse(Builder& b, Value x, Value y, const std::string& reduction) {
  return reduced(b, pow_scalar(b, sub(b, x, y), 2), reduction);
}

Value bce_with_logits(Builder& b, Value x, Value y, Value pos_weight,
                      const std::string& reduction) {
  return reduced(b, pos_weight.valid() ? b.node("bce", {x, y, pos_weight}) : b.node("bce", {x, y}),
                 reduction);
}

}  // namespace graft::ops
