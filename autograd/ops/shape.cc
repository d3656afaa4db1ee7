// Shape changes: views, permutations, copies of parts.
#include <algorithm>

#include "autograd/ops.h"
#include "autograd/ops/families.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

std::vector<Type> infer_reshape(const InferCall& c) {
  c.expect_arity(1, 1);
  const Shape& s = c.attr<ShapeAttrs>().shape;
  c.expect(s.elements() == c.shape(0).elements(), "the number of elements differs");
  return {{c.dtype(0), s}};
}

std::vector<Type> infer_transpose(const InferCall& c) {
  c.expect_arity(1, 1);
  const auto& perm = c.attr<PermAttrs>().perm;
  std::vector<int64_t> sorted = perm, dims;
  std::ranges::sort(sorted);
  c.expect(static_cast<int>(perm.size()) == c.shape(0).rank(), "perm must name every axis");
  for (size_t i = 0; i < perm.size(); ++i) {
    c.expect(sorted[i] == static_cast<int64_t>(i), "perm must name every axis once");
    dims.push_back(c.shape(0)[static_cast<int>(perm[i])]);
  }
  return {{c.dtype(0), Shape(dims)}};
}

std::vector<Type> infer_expand(const InferCall& c) {
  c.expect_arity(1, 1);
  const Shape& s = c.attr<ShapeAttrs>().shape;
  c.expect(broadcasts_to(c.shape(0), s), "x does not broadcast to the shape");
  return {{c.dtype(0), s}};
}

std::vector<Type> infer_concat(const InferCall& c) {
  c.expect(!c.inputs.empty(), "concat needs operands");
  const auto axis = static_cast<int>(c.attr<AxisAttrs>().axis);
  c.expect(axis >= 0 && axis < c.shape(0).rank(), "the axis does not exist");
  int64_t total = 0;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    c.expect(c.dtype(i) == c.dtype(0), "all operands must have one type");
    c.expect(c.shape(i).rank() == c.shape(0).rank() &&
                 c.shape(i).with(axis, 0) == c.shape(0).with(axis, 0),
             "all operands must agree in the other axes");
    total += c.shape(i)[axis];
  }
  return {{c.dtype(0), c.shape(0).with(axis, total)}};
}

std::vector<Type> infer_slice(const InferCall& c) {
  c.expect_arity(1, 1);
  const auto& a = c.attr<SliceAttrs>();
  c.expect(a.axis >= 0 && a.axis < c.shape(0).rank(), "the axis does not exist");
  const int64_t size = c.shape(0)[static_cast<int>(a.axis)];
  c.expect(a.step >= 1 && a.count >= 0 && a.start >= 0 &&
               (a.count == 0 || a.start + (a.count - 1) * a.step < size),
           "the slice leaves the axis");
  return {{c.dtype(0), c.shape(0).with(static_cast<int>(a.axis), a.count)}};
}

std::vector<Type> infer_unslice(const InferCall& c) {
  c.expect_arity(1, 1);
  const auto& a = c.attr<UnsliceAttrs>();
  c.expect(a.axis >= 0 && a.axis < c.shape(0).rank(), "the axis does not exist");
  const int64_t count = c.shape(0)[static_cast<int>(a.axis)];
  c.expect(a.step >= 1 && a.start >= 0 && a.size >= 0 &&
               (count == 0 || a.start + (count - 1) * a.step < a.size),
           "the slice leaves the axis");
  return {{c.dtype(0), c.shape(0).with(static_cast<int>(a.axis), a.size)}};
}

std::vector<Type> infer_pad(const InferCall& c) {
  c.expect_arity(1, 1);
  const auto& a = c.attr<PadAttrs>();
  std::vector<int64_t> dims;
  c.expect(
      static_cast<int>(a.before.size()) == c.shape(0).rank() && a.after.size() == a.before.size(),
      "one amount per axis is needed");
  for (size_t i = 0; i < a.before.size(); ++i) {
    dims.push_back(c.shape(0)[static_cast<int>(i)] + a.before[i] + a.after[i]);
    c.expect(dims.back() >= 0, "more is cut than there is");
  }
  return {{c.dtype(0), Shape(dims)}};
}

Values vjp_reshape(VjpCall& c) { return {reshape(c.b, c.grad(), c.b.shape(c.in(0)))}; }

Values vjp_transpose(VjpCall& c) {
  const auto& perm = c.attr<PermAttrs>().perm;
  std::vector<int64_t> inverse(perm.size());
  for (size_t i = 0; i < perm.size(); ++i)
    inverse[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
  return {transpose(c.b, c.grad(), inverse)};
}

Values vjp_expand(VjpCall& c) {
  return {c.grad()};
}  // reduced to x's shape where cotangents accumulate

Values vjp_concat(VjpCall& c) {
  const int64_t axis = c.attr<AxisAttrs>().axis;
  Values g;
  int64_t at = 0;
  for (size_t i = 0; i < c.node.inputs.size(); ++i) {
    const int64_t size = c.b.shape(c.in(i))[static_cast<int>(axis)];
    g.push_back(c.need(i) ? slice(c.b, c.grad(), axis, at, at + size) : Value{});
    at += size;
  }
  return g;
}

Values vjp_slice(VjpCall& c) {
  const auto& a = c.attr<SliceAttrs>();
  const int64_t size = c.b.shape(c.in(0))[static_cast<int>(a.axis)];
  return {c.b.node("unslice", {c.grad()}, Attrs::of(UnsliceAttrs{a.axis, a.start, a.step, size}))};
}

Values vjp_pad(VjpCall& c) {
  auto a = c.attr<PadAttrs>();
  for (int64_t& n : a.before) n = -n;
  for (int64_t& n : a.after) n = -n;
  return {pad(c.b, c.grad(), a.before, a.after)};
}

constexpr OpDef kOps[] = {
    {.name = "reshape",
     .infer = infer_reshape,
     .vjp = vjp_reshape,
     .flops = no_flops,
     .view_of = 0},
    {.name = "transpose", .infer = infer_transpose, .vjp = vjp_transpose, .flops = no_flops},
    {.name = "expand", .infer = infer_expand, .vjp = vjp_expand, .flops = no_flops},
    {.name = "concat", .infer = infer_concat, .vjp = vjp_concat, .flops = no_flops},
    {.name = "slice", .infer = infer_slice, .vjp = vjp_slice, .flops = no_flops},
    {.name = "unslice", .infer = infer_unslice, .flops = no_flops},
    {.name = "pad", .infer = infer_pad, .vjp = vjp_pad, .flops = no_flops},
};

}  // namespace

Family shape_ops() { return kOps; }

Value reshape(Builder& b, Value x, const Shape& shape) {
  return b.shape(x) == shape ? x : b.node("reshape", {x}, Attrs::of(ShapeAttrs{shape}));
}

Value transpose(Builder& b, Value x, std::vector<int64_t> perm) {
  for (int64_t& p : perm) p = b.shape(x).axis(p);
  return std::ranges::is_sorted(perm) && static_cast<int>(perm.size()) == b.shape(x).rank()
             ? x
             : b.node("transpose", {x}, Attrs::of(PermAttrs{std::move(perm)}));
}

Value expand(Builder& b, Value x, const Shape& shape) {
  return b.shape(x) == shape ? x : b.node("expand", {x}, Attrs::of(ShapeAttrs{shape}));
}

Value concat(Builder& b, std::vector<Value> xs, int64_t axis) {
  if (xs.size() == 1) return xs[0];
  const int64_t a = xs.empty() ? 0 : b.shape(xs[0]).axis(axis);
  return b.node("concat", std::move(xs), Attrs::of(AxisAttrs{a}));
}

Value slice(Builder& b, Value x, int64_t axis, int64_t start, int64_t stop, int64_t step) {
  const int a = b.shape(x).axis(axis);
  const int64_t size = b.shape(x)[a];
  auto clip = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size); };
  start = clip(start);
  stop = clip(stop);
  if (step < 1) throw ShapeError("slice: the step must be positive, got {}", step);
  const int64_t count = stop > start ? (stop - start + step - 1) / step : 0;
  if (count == size) return x;
  return b.node("slice", {x}, Attrs::of(SliceAttrs{a, count == 0 ? 0 : start, count, step}));
}

std::vector<Value> split(Builder& b, Value x, const std::vector<int64_t>& sizes, int64_t axis) {
  Values parts;
  int64_t at = 0;
  for (int64_t size : sizes) {
    parts.push_back(slice(b, x, axis, at, at + size));
    at += size;
  }
  if (at != b.shape(x)[b.shape(x).axis(axis)]) {
    throw ShapeError("split: the pieces [{}] do not fill axis {} of {}", fmt::join(sizes, ", "),
                     axis, b.type(x).str());
  }
  return parts;
}

Value pad(Builder& b, Value x, std::vector<int64_t> before, std::vector<int64_t> after,
          double value) {
  return b.node("pad", {x}, Attrs::of(PadAttrs{std::move(before), std::move(after), value}));
}

}  // namespace graft::ops
