// Elementwise arithmetic, functions and activations, with NumPy broadcasting.
#include <algorithm>
#include <array>
#include <utility>

#include "autograd/ops.h"
#include "autograd/ops/families.h"
#include "core/error.h"

namespace graft::ops {
namespace {

// ---------------------------------------------------------------- shapes
std::vector<Type> infer_unary(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_float(0);
  return {c.in(0)};
}

std::vector<Type> infer_binary(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  if (c.dtype(0) != c.dtype(1)) c.fail("both operands must have one type");
  return {{c.dtype(0), broadcast(c.shape(0), c.shape(1))}};
}

std::vector<Type> infer_where(const InferCall& c) {
  c.expect_arity(3, 3);
  c.expect(!is_float(c.dtype(0)), "the condition must be an integer or bool");
  c.expect_float(1);
  c.expect(c.dtype(1) == c.dtype(2), "both choices must have one type");
  return {{c.dtype(1), broadcast(c.shape(0), broadcast(c.shape(1), c.shape(2)))}};
}

std::vector<Type> infer_masked_fill(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect(!is_float(c.dtype(1)), "the mask must be an integer or bool");
  c.expect(broadcasts_to(c.shape(1), c.shape(0)), "the mask must broadcast to x");
  return {c.in(0)};
}

std::vector<Type> infer_cast(const InferCall& c) {
  c.expect_arity(1, 1);
  return {{c.attr<CastAttrs>().dtype, c.shape(0)}};
}

int64_t bytes_of_bits(const Shape& x) { return (x.elements() + 7) / 8; }

std::vector<Type> infer_positive_bits(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_float(0);
  return {{DType::u8, {bytes_of_bits(c.shape(0))}}};
}

std::vector<Type> infer_relu_backward_bits(const InferCall& c) {  // dy, bits
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect(c.in(1) == Type{DType::u8, {bytes_of_bits(c.shape(0))}}, "bits must be one per element");
  return {c.in(0)};
}

std::vector<Type> infer_dropout(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect(c.in(1) == Type{DType::i64, {2}}, "rng must be i64[2]: seed and step");
  const double p = c.attr<DropoutAttrs>().p;
  c.expect(p >= 0 && p < 1, "p must be in [0, 1)");
  return {c.in(0)};
}

// ---------------------------------------------------------------- gradients
using Values = std::vector<Value>;

Values vjp_add(VjpCall& c) { return {c.grad(), c.grad()}; }
Values vjp_sub(VjpCall& c) { return {c.grad(), c.need(1) ? neg(c.b, c.grad()) : Value{}}; }
Values vjp_mul(VjpCall& c) {
  return {c.need(0) ? mul(c.b, c.grad(), c.in(1)) : Value{},
          c.need(1) ? mul(c.b, c.grad(), c.in(0)) : Value{}};
}
// -(dy/y) x / y: unlike with the quotient itself, each step stays in range where the result does.
Values vjp_div(VjpCall& c) {
  return {c.need(0) ? div(c.b, c.grad(), c.in(1)) : Value{},
          c.need(1) ? neg(c.b, div(c.b, mul(c.b, div(c.b, c.grad(), c.in(1)), c.in(0)), c.in(1)))
                    : Value{}};
}
Values vjp_pow(VjpCall& c) {  // d x^y = y x^(y-1) dx + x^y log(x) dy
  Values g(2);
  if (c.need(0)) {
    const Value slope = mul(c.b, c.in(1), pow(c.b, c.in(0), add_scalar(c.b, c.in(1), -1)));
    g[0] = mul(c.b, c.grad(), slope);
  }
  if (c.need(1)) g[1] = mul(c.b, c.grad(), mul(c.b, c.out(), log(c.b, c.in(0))));
  return g;
}
Values vjp_neg(VjpCall& c) { return {neg(c.b, c.grad())}; }
Values vjp_exp(VjpCall& c) { return {mul(c.b, c.grad(), c.out())}; }
Values vjp_log(VjpCall& c) { return {div(c.b, c.grad(), c.in(0))}; }
Values vjp_sqrt(VjpCall& c) { return {scale(c.b, div(c.b, c.grad(), c.out()), 0.5)}; }
Values vjp_rsqrt(VjpCall& c) {
  return {scale(c.b, mul(c.b, c.grad(), pow_scalar(c.b, c.out(), 3)), -0.5)};
}
Values vjp_abs(VjpCall& c) { return {mul(c.b, c.grad(), sign(c.b, c.in(0)))}; }
Values vjp_sin(VjpCall& c) { return {mul(c.b, c.grad(), cos(c.b, c.in(0)))}; }
Values vjp_cos(VjpCall& c) { return {neg(c.b, mul(c.b, c.grad(), sin(c.b, c.in(0))))}; }
Values vjp_softplus(VjpCall& c) { return {c.b.node("softplus_backward", {c.grad(), c.in(0)})}; }
Values vjp_tanh(VjpCall& c) { return {c.b.node("tanh_backward", {c.grad(), c.out()})}; }
Values vjp_sigmoid(VjpCall& c) { return {c.b.node("sigmoid_backward", {c.grad(), c.out()})}; }
// From the output: relu's input need not be kept, and of an output that nothing else in backward
// reads one bit per element. (What reads the output has been differentiated by now.)
Values vjp_relu(VjpCall& c) {
  const auto in_backward = [&](const Use& u) {
    return c.b.graph().node(u.node).phase == Phase::backward;
  };
  if (std::ranges::any_of(c.b.uses(c.out()), in_backward))
    return {c.b.node("relu_backward", {c.grad(), c.out()})};
  const Phase phase = std::exchange(c.b.phase, c.node.phase);
  const Value bits = c.b.node("positive_bits", {c.out()});
  c.b.phase = phase;
  return {c.b.node("relu_backward_bits", {c.grad(), bits})};
}
Values vjp_gelu_erf(VjpCall& c) { return {c.b.node("gelu_erf_backward", {c.grad(), c.in(0)})}; }
Values vjp_gelu_tanh(VjpCall& c) { return {c.b.node("gelu_tanh_backward", {c.grad(), c.in(0)})}; }
Values vjp_silu(VjpCall& c) { return {c.b.node("silu_backward", {c.grad(), c.in(0)})}; }
Values vjp_scale(VjpCall& c) { return {scale(c.b, c.grad(), c.attr<ScalarAttrs>().value)}; }
Values vjp_add_scalar(VjpCall& c) { return {c.grad()}; }
Values vjp_pow_scalar(VjpCall& c) {
  const double e = c.attr<ScalarAttrs>().value;
  return {mul(c.b, c.grad(), scale(c.b, pow_scalar(c.b, c.in(0), e - 1), e))};
}
Values vjp_clamp(VjpCall& c) {
  return {c.b.node("clamp_backward", {c.grad(), c.in(0)}, c.node.attrs)};
}
Values vjp_where(VjpCall& c) {
  const Value zero = c.b.constant(0);
  return {{},
          c.need(1) ? where(c.b, c.in(0), c.grad(), zero) : Value{},
          c.need(2) ? where(c.b, c.in(0), zero, c.grad()) : Value{}};
}
Values vjp_masked_fill(VjpCall& c) { return {masked_fill(c.b, c.grad(), c.in(1), 0)}; }
Values vjp_cast(VjpCall& c) {
  return {is_float(c.b.type(c.in(0)).dtype) ? cast(c.b, c.grad(), c.b.type(c.in(0)).dtype)
                                            : Value{}};
}
// The mask is a function of (seed, step, stream, index), so the gradient is the same dropout again.
Values vjp_dropout(VjpCall& c) { return {c.b.node("dropout", {c.grad(), c.in(1)}, c.node.attrs)}; }

constexpr OpDef unary(std::string_view name, Values (*vjp)(VjpCall&)) {
  return {.name = name, .infer = infer_unary, .vjp = vjp, .in_place = 1};
}
constexpr OpDef binary(std::string_view name, Values (*vjp)(VjpCall&)) {
  return {.name = name, .infer = infer_binary, .vjp = vjp, .in_place = 3};
}
constexpr OpDef backward(std::string_view name) {
  return {.name = name, .infer = infer_pair, .in_place = 3};
}

constexpr OpDef kOps[] = {
    binary("add", vjp_add),
    binary("sub", vjp_sub),
    binary("mul", vjp_mul),
    binary("div", vjp_div),
    binary("pow", vjp_pow),
    unary("neg", vjp_neg),
    unary("exp", vjp_exp),
    unary("log", vjp_log),
    unary("sqrt", vjp_sqrt),
    unary("rsqrt", vjp_rsqrt),
    unary("abs", vjp_abs),
    unary("sign", nullptr),
    unary("sin", vjp_sin),
    unary("cos", vjp_cos),
    unary("tanh", vjp_tanh),
    unary("sigmoid", vjp_sigmoid),
    unary("relu", vjp_relu),
    unary("gelu_erf", vjp_gelu_erf),
    unary("gelu_tanh", vjp_gelu_tanh),
    unary("silu", vjp_silu),
    unary("softplus", vjp_softplus),
    unary("scale", vjp_scale),
    unary("add_scalar", vjp_add_scalar),
    unary("pow_scalar", vjp_pow_scalar),
    unary("clamp", vjp_clamp),
    backward("tanh_backward"),
    backward("sigmoid_backward"),
    backward("relu_backward"),
    backward("gelu_erf_backward"),
    backward("gelu_tanh_backward"),
    backward("silu_backward"),
    backward("softplus_backward"),
    backward("clamp_backward"),
    {.name = "positive_bits", .infer = infer_positive_bits},
    {.name = "relu_backward_bits", .infer = infer_relu_backward_bits, .in_place = 1},
    {.name = "where", .infer = infer_where, .vjp = vjp_where, .in_place = 6},
    {.name = "masked_fill", .infer = infer_masked_fill, .vjp = vjp_masked_fill, .in_place = 1},
    {.name = "cast", .infer = infer_cast, .vjp = vjp_cast},
    {.name = "stop_gradient", .infer = infer_unary, .view_of = 0},
    {.name = "dropout", .infer = infer_dropout, .vjp = vjp_dropout, .in_place = 1, .draws = true},
};

}  // namespace

Family elementwise_ops() { return kOps; }

#define GRAFT_UNARY(name) \
  Value name(Builder& b, Value x) { return b.node(#name, {x}); }
#define GRAFT_BINARY(name) \
  Value name(Builder& b, Value x, Value y) { return b.node(#name, {x, y}); }
GRAFT_BINARY(add)
GRAFT_BINARY(sub)
GRAFT_BINARY(mul)
GRAFT_BINARY(div)
GRAFT_BINARY(pow)
GRAFT_UNARY(neg)
GRAFT_UNARY(exp)
GRAFT_UNARY(log)
GRAFT_UNARY(sqrt)
GRAFT_UNARY(rsqrt)
GRAFT_UNARY(abs)
GRAFT_UNARY(sign)
GRAFT_UNARY(sin)
GRAFT_UNARY(cos)
GRAFT_UNARY(tanh)
GRAFT_UNARY(sigmoid)
GRAFT_UNARY(relu)
GRAFT_UNARY(gelu_erf)
GRAFT_UNARY(gelu_tanh)
GRAFT_UNARY(silu)
GRAFT_UNARY(softplus)
GRAFT_UNARY(stop_gradient)
#undef GRAFT_UNARY
#undef GRAFT_BINARY

Value scale(Builder& b, Value x, double factor) {
  return factor == 1 ? x : b.node("scale", {x}, Attrs::of(ScalarAttrs{factor}));
}
Value add_scalar(Builder& b, Value x, double c) {
  return b.node("add_scalar", {x}, Attrs::of(ScalarAttrs{c}));
}
Value pow_scalar(Builder& b, Value x, double exponent) {
  return b.node("pow_scalar", {x}, Attrs::of(ScalarAttrs{exponent}));
}
Value clamp(Builder& b, Value x, double min, double max) {
  return b.node("clamp", {x}, Attrs::of(ClampAttrs{min, max}));
}
Value where(Builder& b, Value cond, Value x, Value y) { return b.node("where", {cond, x, y}); }
Value masked_fill(Builder& b, Value x, Value mask, double value) {
  return b.node("masked_fill", {x, mask}, Attrs::of(ScalarAttrs{value}));
}
Value cast(Builder& b, Value x, DType dtype) {
  return b.type(x).dtype == dtype ? x : b.node("cast", {x}, Attrs::of(CastAttrs{dtype}));
}
Value dropout(Builder& b, Value x, Value rng, double p, int64_t stream) {
  return p == 0 ? x : b.node("dropout", {x, rng}, Attrs::of(DropoutAttrs{p, stream}));
}

Value activation(Builder& b, Value x, std::string_view name) {
  using Function = Value (*)(Builder&, Value);
  static constexpr std::array<std::pair<std::string_view, Function>, 12> kByName = {{
      {"gelu", gelu_erf},
      {"gelu_python", gelu_erf},
      {"gelu_new", gelu_tanh},
      {"gelu_pytorch_tanh", gelu_tanh},
      {"gelu_fast", gelu_tanh},
      {"relu", relu},
      {"silu", silu},
      {"swish", silu},
      {"tanh", tanh},
      {"sigmoid", sigmoid},
      {"softplus", softplus},
      {"linear", [](Builder&, Value v) { return v; }},
  }};
  std::string known;
  for (const auto& [key, function] : kByName) {
    if (key == name) return function(b, x);
    known += (known.empty() ? "" : ", ") + std::string(key);
  }
  throw UsageError("there is no activation '{}'; known: {}", name, known);
}

}  // namespace graft::ops
