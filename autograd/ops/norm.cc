// Softmax and norms. Gradients of a norm's input and of its parameters are separate ops, so that a
// frozen norm costs only the first; both recompute the row statistics, so that forward keeps
// nothing but its input.
#include "autograd/ops.h"
#include "autograd/ops/families.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

std::vector<Type> infer_softmax(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_float(0);
  const int64_t axis = c.attr<AxisAttrs>().axis;
  c.expect(axis >= 0 && axis < c.shape(0).rank(), "the axis does not exist");
  return {c.in(0)};
}

void check_param(const InferCall& c, size_t i, const Shape& x) {
  if (!c.has(i)) return;
  c.expect_float(i);
  c.expect(c.shape(i) == Shape{x[-1]}, "weight and bias must have the size of the last axis");
}

std::vector<Type> infer_norm(const InferCall& c) {  // x, weight?, bias?
  c.expect_arity(1, 3);
  c.expect_float(0);
  c.expect(c.shape(0).rank() >= 1, "x must have an axis to normalize");
  check_param(c, 1, c.shape(0));
  check_param(c, 2, c.shape(0));
  return {c.in(0)};
}

std::vector<Type> infer_norm_dx(const InferCall& c) {  // dy, x, weight?
  c.expect_arity(2, 3);
  c.expect(c.in(0) == c.in(1), "dy and x must have one type and shape");
  check_param(c, 2, c.shape(0));
  return {c.in(0)};
}

std::vector<Type> infer_norm_dparams(const InferCall& c) {  // dy, x -> dweight, dbias
  c.expect_arity(2, 2);
  c.expect(c.in(0) == c.in(1), "dy and x must have one type and shape");
  const Type t{c.dtype(0), {c.shape(0)[-1]}};
  return {t, t};
}

Values vjp_softmax(VjpCall& c) {
  return {c.b.node("softmax_backward", {c.grad(), c.out()}, c.node.attrs)};
}
Values vjp_log_softmax(VjpCall& c) {
  return {c.b.node("log_softmax_backward", {c.grad(), c.out()}, c.node.attrs)};
}

Values vjp_norm(VjpCall& c, std::string_view dx, std::string_view dparams) {
  Values g(c.node.inputs.size());
  if (c.need(0)) {
    Values in{c.grad(), c.in(0)};
    if (c.in(1).valid()) in.push_back(c.in(1));
    g[0] = c.b.node(dx, in, c.node.attrs);
  }
  if (c.need(1) || c.need(2)) {
    const Value both = c.b.node(dparams, {c.grad(), c.in(0)}, c.node.attrs);
    if (c.need(1)) g[1] = both;
    if (c.need(2)) g[2] = {both.node, 1};
  }
  return g;
}
Values vjp_layer_norm(VjpCall& c) { return vjp_norm(c, "layer_norm_dx", "layer_norm_dparams"); }
Values vjp_rms_norm(VjpCall& c) { return vjp_norm(c, "rms_norm_dx", "rms_norm_dparams"); }

double row_flops(std::span<const Type> in, std::span<const Type>, const Attrs&) {
  return 8.0 * static_cast<double>(in[0].shape.elements());
}

constexpr OpDef kOps[] = {
    {.name = "softmax",
     .infer = infer_softmax,
     .vjp = vjp_softmax,
     .flops = row_flops,
     .in_place = 1},
    {.name = "softmax_backward", .infer = infer_pair, .flops = row_flops, .in_place = 3},
    {.name = "log_softmax",
     .infer = infer_softmax,
     .vjp = vjp_log_softmax,
     .flops = row_flops,
     .in_place = 1},
    {.name = "log_softmax_backward", .infer = infer_pair, .flops = row_flops, .in_place = 3},
    {.name = "layer_norm",
     .infer = infer_norm,
     .vjp = vjp_layer_norm,
     .flops = row_flops,
     .in_place = 1},
    {.name = "layer_norm_dx", .infer = infer_norm_dx, .flops = row_flops, .in_place = 3},
    {.name = "layer_norm_dparams", .infer = infer_norm_dparams, .flops = row_flops},
    {.name = "rms_norm",
     .infer = infer_norm,
     .vjp = vjp_rms_norm,
     .flops = row_flops,
     .in_place = 1},
    {.name = "rms_norm_dx", .infer = infer_norm_dx, .flops = row_flops, .in_place = 3},
    {.name = "rms_norm_dparams", .infer = infer_norm_dparams, .flops = row_flops},
};

}  // namespace

Family norm_ops() { return kOps; }

Value softmax(Builder& b, Value x, int64_t axis) {
  return b.node("softmax", {x}, Attrs::of(AxisAttrs{b.shape(x).axis(axis)}));
}
Value log_softmax(Builder& b, Value x, int64_t axis) {
  return b.node("log_softmax", {x}, Attrs::of(AxisAttrs{b.shape(x).axis(axis)}));
}
Value layer_norm(Builder& b, Value x, Value weight, Value bias, double eps) {
  return b.node("layer_norm", {x, weight, bias}, Attrs::of(EpsAttrs{eps}));
}
Value rms_norm(Builder& b, Value x, Value weight, double eps) {
  return b.node("rms_norm", {x, weight}, Attrs::of(EpsAttrs{eps}));
}

}  // namespace graft::ops
