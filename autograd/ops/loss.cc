// Losses. cross_entropy returns the loss and, for backward, needs nothing but its own inputs.
#include "autograd/ops.h"
#include "autograd/ops/families.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

void check_reduction(const InferCall& c) {
  const std::string& r = c.attr<LossAttrs>().reduction;
  c.expect(r == "none" || r == "mean" || r == "sum", "the reduction must be none, mean or sum");
}

std::vector<Type> infer_cross_entropy(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect_int(1);
  check_reduction(c);
  c.expect(c.shape(0).rank() == 2 && c.shape(1) == Shape{c.shape(0)[0]},
           "logits must be [N, C] and target [N]");
  return {{c.dtype(0), c.attr<LossAttrs>().reduction == "none" ? c.shape(1) : Shape{}}};
}

std::vector<Type> infer_cross_entropy_backward(const InferCall& c) {  // dout, logits, target
  c.expect_arity(3, 3);
  c.expect_float(0);
  c.expect_float(1);
  c.expect_int(2);
  check_reduction(c);
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

constexpr OpDef kOps[] = {
    {.name = "cross_entropy", .infer = infer_cross_entropy, .vjp = vjp_cross_entropy},
    {.name = "cross_entropy_backward", .infer = infer_cross_entropy_backward},
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

Value mse(Builder& b, Value x, Value y, const std::string& reduction) {
  return reduced(b, pow_scalar(b, sub(b, x, y), 2), reduction);
}

Value bce_with_logits(Builder& b, Value x, Value y, Value pos_weight,
                      const std::string& reduction) {
  return reduced(b, pos_weight.valid() ? b.node("bce", {x, y, pos_weight}) : b.node("bce", {x, y}),
                 reduction);
}

}  // namespace graft::ops
