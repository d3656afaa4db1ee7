// Updates of a weight that live in fewer numbers than the weight: chosen entries, hard-concrete
// gates (2012.07463), the Fastfood subspace (Le et al. 2013; 2012.13255).
#include <algorithm>
#include <bit>

#include "autograd/ops.h"
#include "autograd/ops/families.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

std::vector<Type> infer_sparse_add(const InferCall& c) {  // w, values [k], index [k]
  c.expect_arity(3, 3);
  c.expect_float(0);
  c.expect(c.dtype(0) == c.dtype(1), "w and values must have one type");
  c.expect(c.dtype(2) == DType::i64 && c.shape(2).rank() == 1 && c.shape(1) == c.shape(2),
           "values and index (i64) must be vectors of one length");
  return {c.in(0)};
}

std::vector<Type> infer_sparse_gather(const InferCall& c) {  // g, index [k]
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect(c.dtype(1) == DType::i64 && c.shape(1).rank() == 1, "index must be an i64 vector");
  return {{c.dtype(0), c.shape(1)}};
}

Values vjp_sparse_add(VjpCall& c) {
  Values g(3);
  if (c.need(0)) g[0] = c.grad();
  if (c.need(1)) g[1] = c.b.node("sparse_gather", {c.grad(), c.in(2)}, c.node.attrs);
  return g;
}

Values vjp_sparse_gather(VjpCall& c) {
  return {sparse_add(c.b, c.b.constant(0, c.b.shape(c.in(0))), c.grad(), c.in(1),
                     c.attr<SparseAttrs>().offset)};
}

void expect_rng(const InferCall& c, size_t i) {
  if (c.has(i)) c.expect(c.in(i) == Type{DType::i64, {2}}, "rng must be i64[2]: seed and step");
}

std::vector<Type> infer_hard_concrete(const InferCall& c) {  // alpha, rng?
  c.expect_arity(1, 2);
  c.expect_float(0);
  expect_rng(c, 1);
  return {c.in(0)};
}

std::vector<Type> infer_hard_concrete_backward(const InferCall& c) {  // dz, alpha, rng?
  c.expect_arity(2, 3);
  c.expect_float(0);
  c.expect(c.in(0) == c.in(1), "dz and alpha must have one type and shape");
  expect_rng(c, 2);
  return {c.in(0)};
}

// The draw is a function of (seed, step, stream, index): backward draws the same again.
Values vjp_hard_concrete(VjpCall& c) {
  Values in{c.grad(), c.in(0)};
  if (c.in(1).valid()) in.push_back(c.in(1));
  return {c.b.node("hard_concrete_backward", in, c.node.attrs)};
}

double gate_flops(std::span<const Type>, std::span<const Type> out, const Attrs&) {
  return 20.0 * static_cast<double>(out[0].shape.elements());
}

int64_t padded(int64_t size) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(size)));
}

std::vector<Type> infer_fastfood_draw(const InferCall& c) {
  c.expect_arity(0, 0);
  const auto& a = c.attr<FastfoodAttrs>();
  c.expect(a.size > 0 && a.k > 0 && a.size <= int64_t{1} << 30,
           "size must be between 1 and 2^30, k positive");
  const int64_t length = padded(a.size);
  return {{DType::f32, {length}}, {DType::i32, {length}}, {DType::f32, {std::min(a.k, length)}}};
}

// Operands 1 to 3 are what fastfood_draw makes of the same attributes.
void check_draw(const InferCall& c) {
  const auto& a = c.attr<FastfoodAttrs>();
  const int64_t length = padded(a.size);
  c.expect(c.in(1) == Type{DType::f32, {length}} && c.in(2) == Type{DType::i32, {length}} &&
               c.in(3) == Type{DType::f32, {std::min(a.k, length)}},
           "gauss, permutation and signs must be those of fastfood_draw");
}

std::vector<Type> infer_fastfood(const InferCall& c) {  // v, gauss, permutation, signs
  c.expect_arity(4, 4);
  const auto& a = c.attr<FastfoodAttrs>();
  c.expect(c.shape(0) == Shape{a.k}, "v must be [k]");
  check_draw(c);
  return {{c.dtype(0), {a.size}}};
}

std::vector<Type> infer_fastfood_adjoint(const InferCall& c) {  // g, gauss, permutation, signs
  c.expect_arity(4, 4);
  const auto& a = c.attr<FastfoodAttrs>();
  c.expect(c.shape(0) == Shape{a.size}, "g must be [size]");
  check_draw(c);
  return {{c.dtype(0), {a.k}}};
}

double fastfood_flops(std::span<const Type> in, std::span<const Type>, const Attrs&) {
  const auto length = static_cast<uint64_t>(in[1].shape.elements());
  return 2.0 * static_cast<double>(length) * std::bit_width(length);
}

Values vjp_fastfood(VjpCall& c) {
  return {c.b.node("fastfood_adjoint", {c.grad(), c.in(1), c.in(2), c.in(3)}, c.node.attrs)};
}
Values vjp_fastfood_adjoint(VjpCall& c) {
  return {c.b.node("fastfood", {c.grad(), c.in(1), c.in(2), c.in(3)}, c.node.attrs)};
}

constexpr OpDef kOps[] = {
    {.name = "sparse_add",
     .infer = infer_sparse_add,
     .vjp = vjp_sparse_add,
     .flops = no_flops,
     .in_place = 1},
    {.name = "sparse_gather",
     .infer = infer_sparse_gather,
     .vjp = vjp_sparse_gather,
     .flops = no_flops},
    {.name = "hard_concrete",
     .infer = infer_hard_concrete,
     .vjp = vjp_hard_concrete,
     .flops = gate_flops,
     .in_place = 1,
     .draws = true},
    {.name = "hard_concrete_backward",
     .infer = infer_hard_concrete_backward,
     .flops = gate_flops,
     .in_place = 1,
     .draws = true},
    {.name = "fastfood_draw", .infer = infer_fastfood_draw, .once = true},
    {.name = "fastfood",
     .infer = infer_fastfood,
     .vjp = vjp_fastfood,
     .flops = fastfood_flops,
     .costly = true},
    {.name = "fastfood_adjoint",
     .infer = infer_fastfood_adjoint,
     .vjp = vjp_fastfood_adjoint,
     .flops = fastfood_flops,
     .costly = true},
};

}  // namespace

Family subspace_ops() { return kOps; }

Value sparse_add(Builder& b, Value w, Value values, Value index, int64_t offset) {
  return b.node("sparse_add", {w, values, index}, Attrs::of(SparseAttrs{offset}));
}

Value hard_concrete(Builder& b, Value alpha, Value rng, double lower, double upper,
                    int64_t stream) {
  const Attrs attrs = Attrs::of(HardConcreteAttrs{lower, upper, stream});
  return rng.valid() ? b.node("hard_concrete", {alpha, rng}, attrs)
                     : b.node("hard_concrete", {alpha}, attrs);
}

Value fastfood(Builder& b, Value v, int64_t size, int64_t seed, int64_t stream) {
  const Attrs attrs = Attrs::of(FastfoodAttrs{size, b.shape(v)[0], seed, stream});
  const Value draw = b.node("fastfood_draw", {}, attrs);
  return b.node("fastfood", {v, draw, {draw.node, 1}, {draw.node, 2}}, attrs);
}

}  // namespace graft::ops
