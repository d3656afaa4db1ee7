// Matrix products.
#include "autograd/ops.h"
#include "autograd/ops/families.h"
#include "core/error.h"
#include "kernels/packed.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

std::vector<Type> infer_matmul(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect(c.dtype(0) == c.dtype(1), "both operands must have one type");
  const Shape &x = c.shape(0), &y = c.shape(1);
  c.expect(x.rank() >= 2 && y.rank() >= 2, "both operands must be matrices or batches of them");
  const auto& a = c.attr<MatmulAttrs>();
  const int64_t k = x[a.tx ? -2 : -1], k2 = y[a.ty ? -1 : -2];
  c.expect(k == k2, fmt::format("the inner dimensions differ: {} and {}", k, k2));
  const Shape batch = broadcast(x.batch(), y.batch());
  std::vector<int64_t> dims(batch.dims().begin(), batch.dims().end());
  dims.push_back(x[a.tx ? -1 : -2]);
  dims.push_back(y[a.ty ? -2 : -1]);
  return {{c.dtype(0), Shape(dims)}};
}

std::vector<Type> infer_linear(const InferCall& c) {
  c.expect_arity(2, 3);
  c.expect_float(0);
  c.expect(c.shape(0).rank() >= 1 && c.shape(1).rank() == 2, "w must be [out, in]");
  c.expect(c.shape(0)[-1] == c.shape(1)[1],
           fmt::format("x has {} features, w takes {}", c.shape(0)[-1], c.shape(1)[1]));
  c.expect(c.dtype(0) == c.dtype(1), "x and w must have one type");
  if (c.has(2)) c.expect(c.in(2) == Type{c.dtype(0), {c.shape(1)[0]}}, "bias must be [out]");
  return {{c.dtype(0), c.shape(0).with(-1, c.shape(1)[0])}};
}

double matmul_flops(std::span<const Type> in, std::span<const Type> out, const Attrs& attrs) {
  const Shape& x = in[0].shape;
  return 2.0 * static_cast<double>(out[0].shape.elements()) *
         static_cast<double>(x[attrs.as<MatmulAttrs>().tx ? -2 : -1]);
}

double linear_flops(std::span<const Type> in, std::span<const Type> out, const Attrs&) {
  return 2.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(in[1].shape[1]);
}

Values vjp_matmul(VjpCall& c) {
  const auto a = c.attr<MatmulAttrs>();
  Values g(2);
  if (c.need(0)) {
    g[0] = a.tx ? matmul(c.b, c.in(1), c.grad(), a.ty, true)
                : matmul(c.b, c.grad(), c.in(1), false, !a.ty);
  }
  if (c.need(1)) {
    g[1] = a.ty ? matmul(c.b, c.grad(), c.in(0), true, a.tx)
                : matmul(c.b, c.in(0), c.grad(), !a.tx, false);
  }
  return g;
}

Value flat(Builder& b, Value x) {
  const Shape s = b.shape(x);
  return reshape(b, x, {s.product(0, s.rank() - 1), s[-1]});
}

Values vjp_linear(VjpCall& c) {
  Values g(c.node.inputs.size());
  if (c.need(0)) {
    g[0] = reshape(c.b, c.b.node("linear_dx", {flat(c.b, c.grad()), c.in(1)}), c.b.shape(c.in(0)));
  }
  if (c.need(1)) g[1] = matmul(c.b, flat(c.b, c.grad()), flat(c.b, c.in(0)), true, false);
  if (c.need(2)) g[2] = sum(c.b, flat(c.b, c.grad()), {0});
  return g;
}

// linear_dx: dy [n, out], w [out, in] -> [n, in]. An op of its own, so that a frozen w can be read
// in its packed form.
std::vector<Type> infer_linear_dx(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect(c.shape(0).rank() == 2 && c.shape(1).rank() == 2 && c.shape(0)[1] == c.shape(1)[0],
           "dy must be [n, out]");
  return {{c.dtype(0), {c.shape(0)[0], c.shape(1)[1]}}};
}
double linear_dx_flops(std::span<const Type> in, std::span<const Type> out, const Attrs&) {
  return 2.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(in[1].shape[0]);
}
Values vjp_linear_dx(VjpCall& c) {
  Values g(2);
  if (c.need(0)) g[0] = linear(c.b, c.grad(), c.in(1));
  if (c.need(1)) g[1] = matmul(c.b, c.in(0), c.grad(), true, false);
  return g;
}

// The forms that passes bring in after differentiation (passes/pack_weights.h,
// passes/fuse_products.h): a frozen weight laid out for the kernels, and a product with what
// surrounds it.
std::vector<Type> infer_pack(const InferCall& c) {
  c.expect_arity(1, 1);
  if (c.dtype(0) != DType::bf16) c.expect_float(0);
  c.expect(c.shape(0).rank() == 2, "w must be [out, in]");
  return {{c.dtype(0), {PackedElements(c.shape(0)[0], c.shape(0)[1])}}};
}

std::vector<Type> infer_fused_linear(const InferCall& c) {  // x, w, bias?, base?
  c.expect_arity(2, 4);
  c.expect_float(0);
  const auto& a = c.attr<FusedLinearAttrs>();
  c.expect(c.shape(0).rank() >= 1 && c.shape(0)[-1] == a.features() && a.features() > 0,
           fmt::format("x must have {} features", a.features()));
  const bool panels = c.shape(1).rank() == 1;
  c.expect(c.dtype(0) == c.dtype(1) || (panels && c.dtype(1) == DType::bf16),
           "x and w must have one type, or w be panels of bf16");
  c.expect(c.shape(1) == Shape{a.out, a.in} || c.shape(1) == Shape{PackedElements(a.out, a.in)},
           fmt::format("w must be [{}, {}] or {} numbers in panels", a.out, a.in,
                       PackedElements(a.out, a.in)));
  const Type y{c.dtype(0), c.shape(0).with(-1, a.columns())};
  if (c.has(2)) c.expect(c.in(2) == Type{c.dtype(0), {a.columns()}}, "bias must be [columns]");
  if (c.has(3)) c.expect(c.in(3) == y, "base must have the shape of the result");
  return {y};
}
double fused_linear_flops(std::span<const Type> in, std::span<const Type>, const Attrs& attrs) {
  const auto& a = attrs.as<FusedLinearAttrs>();
  return 2.0 * static_cast<double>(in[0].shape.elements()) * static_cast<double>(a.columns());
}
Values vjp_fused_linear(VjpCall& c) {
  throw GraphError("fused_linear at '{}' has no gradient: differentiate before fusing",
                   c.node.scope);
}

constexpr OpDef kOps[] = {
    {.name = "matmul",
     .infer = infer_matmul,
     .vjp = vjp_matmul,
     .flops = matmul_flops,
     .costly = true},
    {.name = "linear",
     .infer = infer_linear,
     .vjp = vjp_linear,
     .flops = linear_flops,
     .costly = true},
    {.name = "linear_dx",
     .infer = infer_linear_dx,
     .vjp = vjp_linear_dx,
     .flops = linear_dx_flops,
     .costly = true},
    {.name = "pack", .infer = infer_pack, .flops = no_flops},
    {.name = "fused_linear",
     .infer = infer_fused_linear,
     .vjp = vjp_fused_linear,
     .flops = fused_linear_flops,
     .in_place = 1 << 3,
     .costly = true},
};

}  // namespace

Family matmul_ops() { return kOps; }

Value matmul(Builder& b, Value x, Value y, bool tx, bool ty) {
  // Vectors, as in NumPy: a row on the left, a column on the right, and the result loses that axis.
  if (b.shape(x).rank() == 1) {
    const Value z = matmul(b, reshape(b, x, {1, b.shape(x)[0]}), y, false, ty);
    return reshape(b, z, b.shape(z).without(-2));
  }
  if (b.shape(y).rank() == 1) {
    const Value z = matmul(b, x, reshape(b, y, {b.shape(y)[0], 1}), tx, false);
    return reshape(b, z, b.shape(z).without(-1));
  }
  // One matrix on the right serves all rows of a batch on the left: one large product.
  if (b.shape(x).rank() > 2 && b.shape(y).rank() == 2 && !tx) {
    const Shape s = b.shape(x);
    const Value z = matmul(b, flat(b, x), y, false, ty);
    return reshape(b, z, s.with(-1, b.shape(z)[-1]));
  }
  return b.node("matmul", {x, y}, Attrs::of(MatmulAttrs{tx, ty}));
}

Value linear(Builder& b, Value x, Value w, Value bias) {
  return bias.valid() ? b.node("linear", {x, w, bias}) : b.node("linear", {x, w});
}

}  // namespace graft::ops
