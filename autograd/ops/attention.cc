// Scaled dot-product attention without the T x T matrix, rotary positions, T5 buckets. Backward
// computes the probabilities again from q and k, exactly as forward did, and draws the same mask of
// dropout; it keeps neither them nor the output.
#include <cmath>

#include "autograd/ops.h"
#include "autograd/ops/families.h"

namespace graft::ops {
namespace {

using Values = std::vector<Value>;

struct Dims {
  int64_t b, t, s, h, hk, d;
};

Dims dims_of(const Shape& q, const Shape& k, bool bthd) {
  const int time = bthd ? 1 : 2, heads = bthd ? 2 : 1;
  return {q[0], q[time], k[time], q[heads], k[heads], q[3]};
}

void check_qkv(const InferCall& c, size_t first) {
  const Shape &q = c.shape(first), &k = c.shape(first + 1), &v = c.shape(first + 2);
  for (size_t i = first; i < first + 3; ++i) c.expect_float(i);
  c.expect(q.rank() == 4 && k.rank() == 4 && k == v,
           "q, k and v must have four axes, k and v one shape");
  const auto& a = c.attr<AttentionAttrs>();
  c.expect(a.softcap >= 0 && std::isfinite(a.softcap), "softcap must be positive, or 0 for none");
  const Dims d = dims_of(q, k, a.bthd);
  c.expect(k[0] == d.b && k[3] == d.d, "q and k must agree in batch and head size");
  c.expect(d.hk > 0 && d.h % d.hk == 0, "the query heads must be a multiple of the key heads");
  if (c.has(first + 3)) {
    c.expect_float(first + 3);
    c.expect(broadcasts_to(c.shape(first + 3), {d.b, d.h, d.t, d.s}),
             "bias must broadcast to [B, H, T, S]");
  }
  if (c.has(first + 4)) {
    c.expect(!is_float(c.dtype(first + 4)) && c.shape(first + 4) == Shape{d.b, d.s},
             "keep must be an integer or bool [B, S]");
  }
  c.expect(a.dropout >= 0 && a.dropout < 1, "dropout must be in [0, 1)");
  c.expect(c.has(first + 5) == (a.dropout > 0), "rng must be given with dropout, and only then");
  if (c.has(first + 5))
    c.expect(c.in(first + 5) == Type{DType::i64, {2}}, "rng must be i64[2]: seed and step");
}

std::vector<Type> infer_attention(const InferCall& c) {  // q, k, v, bias?, keep?, rng?
  c.expect_arity(3, 6);
  check_qkv(c, 0);
  return {c.in(0)};
}

// dout, q, k, v, bias?, keep?, rng?
std::vector<Type> infer_attention_backward(const InferCall& c) {
  c.expect_arity(4, 7);
  check_qkv(c, 1);
  c.expect(c.in(0) == c.in(1), "dout must be as q");
  const auto& a = c.attr<AttentionAttrs>();
  const Type none{c.dtype(0), {0}};
  return {a.need_dq ? c.in(1) : none, a.need_dk ? c.in(2) : none, a.need_dv ? c.in(3) : none,
          a.need_dbias ? c.in(4) : none};
}

Values vjp_attention(VjpCall& c) {
  auto a = c.attr<AttentionAttrs>();
  a.need_dq = c.need(0);
  a.need_dk = c.need(1);
  a.need_dv = c.need(2);
  a.need_dbias = c.need(3);
  Values in{c.grad(), c.in(0), c.in(1), c.in(2), c.in(3), c.in(4)};
  if (a.dropout > 0) in.push_back(c.in(5));
  const Value g = c.b.node("attention_backward", in, Attrs::of(a));
  Values out(c.node.inputs.size());
  for (int32_t i = 0; i < 4; ++i) {
    if (c.need(static_cast<size_t>(i))) out[static_cast<size_t>(i)] = {g.node, i};
  }
  return out;
}

double visible(const Dims& d) {
  return static_cast<double>(d.b * d.h) * static_cast<double>(d.t) * static_cast<double>(d.s) *
         static_cast<double>(d.d);
}

double attention_flops(std::span<const Type> in, std::span<const Type>, const Attrs& attrs) {
  return 4 * visible(dims_of(in[0].shape, in[1].shape, attrs.as<AttentionAttrs>().bthd));
}
double attention_backward_flops(std::span<const Type> in, std::span<const Type>,
                                const Attrs& attrs) {
  const auto& a = attrs.as<AttentionAttrs>();
  return (4 + 2 * (a.need_dq + a.need_dk + a.need_dv)) *
         visible(dims_of(in[1].shape, in[2].shape, a.bthd));
}

std::vector<Type> infer_rope(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect_int(1);
  const auto& a = c.attr<RopeAttrs>();
  const Shape& x = c.shape(0);
  c.expect(x.rank() == 4 && c.shape(1) == Shape{x[0], x[a.bthd ? 1 : 2]},
           "x must have four axes and positions be [B, T]");
  c.expect(2 * static_cast<int64_t>(a.inv_freq.size()) <= x[3],
           "more channels rotate than there are");
  return {c.in(0)};
}
Values vjp_rope(VjpCall& c) {
  auto a = c.attr<RopeAttrs>();
  a.inverse = !a.inverse;
  return {rope(c.b, c.grad(), c.in(1), a)};
}

std::vector<Type> infer_t5_bucket(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_int(0);
  // The nearer half of a direction's buckets is for single distances, the rest is logarithmic up to
  // max_distance.
  const auto& a = c.attr<T5BucketAttrs>();
  const int64_t single = a.num_buckets / (a.bidirectional ? 4 : 2);
  c.expect(single >= 1 && a.max_distance > single,
           "there must be two buckets per direction, and max_distance beyond half of them");
  return {{DType::i64, c.shape(0)}};
}

std::vector<Type> infer_deberta_bucket(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_int(0);
  const auto& a = c.attr<DebertaBucketAttrs>();
  c.expect(a.span >= 2 && (a.max_distance == 0 || a.max_distance - 1 > a.span / 2),
           "span must be at least 2, and max_distance beyond half of it");
  return {{DType::i64, c.shape(0)}};
}

constexpr OpDef kOps[] = {
    {.name = "attention",
     .infer = infer_attention,
     .vjp = vjp_attention,
     .flops = attention_flops,
     .costly = true},
    {.name = "attention_backward",
     .infer = infer_attention_backward,
     .flops = attention_backward_flops,
     .costly = true},
    {.name = "rope", .infer = infer_rope, .vjp = vjp_rope},
    {.name = "t5_bucket", .infer = infer_t5_bucket},
    {.name = "deberta_bucket", .infer = infer_deberta_bucket},
};

}  // namespace

Family attention_ops() { return kOps; }

Value attention(Builder& b, Value q, Value k, Value v, Value bias, Value keep,
                const AttentionAttrs& attrs, Value rng) {
  Values in{q, k, v, bias, keep};
  if (attrs.dropout > 0) in.push_back(rng);
  return b.node("attention", in, Attrs::of(attrs));
}
Value rope(Builder& b, Value x, Value positions, const RopeAttrs& attrs) {
  return b.node("rope", {x, positions}, Attrs::of(attrs));
}
Value t5_bucket(Builder& b, Value rel, const T5BucketAttrs& attrs) {
  return b.node("t5_bucket", {rel}, Attrs::of(attrs));
}
Value deberta_bucket(Builder& b, Value rel, const DebertaBucketAttrs& attrs) {
  return b.node("deberta_bucket", {rel}, Attrs::of(attrs));
}

}  // namespace graft::ops
