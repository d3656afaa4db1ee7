// Sums, means, maxima and running sums over axes.
#include <algorithm>
#include <numeric>

#include "autograd/ops.h"
#include "autograd/ops/families.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

Shape reduced(const Shape& x, const std::vector<int64_t>& axes, bool keepdim) {
  std::vector<int64_t> dims;
  for (int i = 0; i < x.rank(); ++i) {
    if (!std::ranges::binary_search(axes, i)) {
      dims.push_back(x[i]);
    } else if (keepdim) {
      dims.push_back(1);
    }
  }
  return Shape(dims);
}

// The shape of x with 1 in every reduced axis: what broadcasts back to x.
Shape kept(const Shape& x, const std::vector<int64_t>& axes) { return reduced(x, axes, true); }

std::vector<int64_t> normalized(const Shape& x, const std::vector<int64_t>& axes) {
  std::vector<int64_t> all(static_cast<size_t>(x.rank()));
  std::iota(all.begin(), all.end(), 0);
  if (axes.empty()) return all;
  std::vector<int64_t> out;
  for (int64_t a : axes) out.push_back(x.axis(a));
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<Type> infer_reduce(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_float(0);
  const auto& a = c.attr<ReduceAttrs>();
  for (int64_t axis : a.axes)
    c.expect(axis >= 0 && axis < c.shape(0).rank(), "the axes do not exist");
  c.expect(std::ranges::is_sorted(a.axes), "the axes must be sorted");
  return {{c.dtype(0), reduced(c.shape(0), a.axes, a.keepdim)}};
}

std::vector<Type> infer_max(const InferCall& c) {
  std::vector<Type> t = infer_reduce(c);
  c.expect(c.attr<ReduceAttrs>().axes.size() == 1, "max takes one axis");
  c.expect(c.shape(0)[static_cast<int>(c.attr<ReduceAttrs>().axes[0])] > 0,
           "there is no maximum of nothing");
  t.push_back({DType::i64, t[0].shape});
  return t;
}

std::vector<Type> infer_cumsum(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_float(0);
  const int64_t axis = c.attr<CumsumAttrs>().axis;
  c.expect(axis >= 0 && axis < c.shape(0).rank(), "the axis does not exist");
  return {c.in(0)};
}

std::vector<Type> infer_l2_norm(const InferCall& c) {
  for (size_t i = 0; i < c.inputs.size(); ++i) c.expect_float(i);
  return {{DType::f32, {}}};
}

Values vjp_sum(VjpCall& c) {
  const Shape& x = c.b.shape(c.in(0));
  const Value g = reshape(c.b, c.grad(), kept(x, c.attr<ReduceAttrs>().axes));
  return {expand(c.b, g, x)};
}

Values vjp_mean(VjpCall& c) {
  const Shape& x = c.b.shape(c.in(0));
  const Value g = reshape(c.b, c.grad(), kept(x, c.attr<ReduceAttrs>().axes));
  const double count = static_cast<double>(x.elements()) /
                       std::max<double>(1, static_cast<double>(c.node.outputs[0].shape.elements()));
  return {scale(c.b, expand(c.b, g, x), 1 / count)};
}

Values vjp_max(VjpCall& c) {
  const auto& a = c.attr<ReduceAttrs>();
  const Shape& x = c.b.shape(c.in(0));
  const Shape one = kept(x, a.axes);
  return {scatter(c.b, c.b.constant(0, x), reshape(c.b, c.out(1), one), reshape(c.b, c.grad(), one),
                  a.axes[0])};
}

Values vjp_cumsum(VjpCall& c) {
  const auto& a = c.attr<CumsumAttrs>();
  return {cumsum(c.b, c.grad(), a.axis, !a.reverse)};
}

Values vjp_l2_norm(VjpCall& c) {  // d |x| = x / |x|
  Values g;
  const Value factor = div(c.b, c.grad(), c.out());
  for (size_t i = 0; i < c.node.inputs.size(); ++i) {
    g.push_back(c.need(i) ? mul(c.b, c.in(i), factor) : Value{});
  }
  return g;
}

double input_flops(std::span<const Type> in, std::span<const Type>, const Attrs&) {
  double n = 0;
  for (const Type& t : in) n += static_cast<double>(t.shape.elements());
  return n;
}

constexpr OpDef kOps[] = {
    {.name = "sum", .infer = infer_reduce, .vjp = vjp_sum, .flops = input_flops},
    {.name = "mean", .infer = infer_reduce, .vjp = vjp_mean, .flops = input_flops},
    {.name = "max", .infer = infer_max, .vjp = vjp_max, .flops = input_flops},
    {.name = "cumsum", .infer = infer_cumsum, .vjp = vjp_cumsum},
    {.name = "l2_norm", .infer = infer_l2_norm, .vjp = vjp_l2_norm, .flops = input_flops},
};

Value reduce(Builder& b, std::string_view op, Value x, const std::vector<int64_t>& axes,
             bool keepdim) {
  return b.node(op, {x}, Attrs::of(ReduceAttrs{normalized(b.shape(x), axes), keepdim}));
}

}  // namespace

Family reduce_ops() { return kOps; }

Value sum(Builder& b, Value x, const std::vector<int64_t>& axes, bool keepdim) {
  return reduce(b, "sum", x, axes, keepdim);
}
Value mean(Builder& b, Value x, const std::vector<int64_t>& axes, bool keepdim) {
  return reduce(b, "mean", x, axes, keepdim);
}

std::pair<Value, Value> max(Builder& b, Value x, int64_t axis, bool keepdim) {
  const Value v = reduce(b, "max", x, {axis}, keepdim);
  return {v, {v.node, 1}};
}

Value cumsum(Builder& b, Value x, int64_t axis, bool reverse) {
  return b.node("cumsum", {x}, Attrs::of(CumsumAttrs{b.shape(x).axis(axis), reverse}));
}

Value sum_to(Builder& b, Value x, const Shape& shape) {
  const Shape from = b.shape(x);
  if (from == shape) return x;
  if (!broadcasts_to(shape, from)) {
    throw ShapeError("sum_to: {} does not broadcast to {}", shape.str(), from.str());
  }
  std::vector<int64_t> axes;
  for (int i = 0; i < from.rank(); ++i) {
    const int at = i - (from.rank() - shape.rank());
    if (at < 0 || (shape[at] == 1 && from[i] != 1)) axes.push_back(i);
  }
  if (!axes.empty()) x = sum(b, x, axes);
  return reshape(b, x, shape);
}

Value l2_norm(Builder& b, const std::vector<Value>& xs) { return b.node("l2_norm", xs); }

}  // namespace graft::ops
