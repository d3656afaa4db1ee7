// Optimizer updates, in place: operands (p, g, states..., lr, step, grad_scale), results (p',
// states'...). lr and grad_scale are f32 scalars, step an i64 scalar that counts finished steps. g
// is multiplied by grad_scale (clipping) before anything else.
#include "autograd/builder.h"
#include "autograd/ops/families.h"
#include "kernels/dynamic_map.h"

namespace graft::ops {
namespace {

template <size_t kStates>
std::vector<Type> infer_update(const InferCall& c) {
  c.expect_arity(kStates + 5, kStates + 5);
  c.expect_float(0);
  c.expect(c.in(0) == c.in(1), "parameter and gradient must have one type and shape");
  c.expect(c.in(2 + kStates).shape == Shape{} && c.in(4 + kStates).shape == Shape{},
           "lr and grad_scale must be scalars");
  c.expect(c.in(3 + kStates) == Type{DType::i64, {}}, "step must be an i64 scalar");
  std::vector<Type> out{c.in(0)};
  for (size_t i = 0; i < kStates; ++i) out.push_back(c.in(2 + i));
  return out;
}

double update_flops(std::span<const Type> in, std::span<const Type>, const Attrs&) {
  return 10.0 * static_cast<double>(in[0].shape.elements());
}

std::vector<Type> infer_schedule(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect(c.in(0) == Type{DType::i64, {}}, "step must be an i64 scalar");
  return {{DType::f32, {}}};
}

std::vector<Type> infer_increment(const InferCall& c) {
  c.expect_arity(1, 1);
  c.expect_int(0);
  return {c.in(0)};
}

std::vector<Type> infer_clip(const InferCall& c) {  // norm -> min(1, max_norm / (norm + 1e-6))
  c.expect_arity(1, 1);
  return {c.in(0)};
}

// States: exp_avg and exp_avg_sq, each as codes (u8) like the parameter and one f32 per block
// (kernels/dynamic_map.h).
std::vector<Type> infer_8bit(const InferCall& c) {
  std::vector<Type> out = infer_update<4>(c);
  const Type codes{DType::u8, c.shape(0)};
  const Type absmax{DType::f32, {dynamic_map::blocks(c.shape(0).elements())}};
  for (const size_t i : {2, 4}) {
    c.expect(c.in(i) == codes && c.in(i + 1) == absmax,
             fmt::format("a state must be {} and {}", codes.str(), absmax.str()));
  }
  return out;
}

template <size_t kStates>
constexpr OpDef update(std::string_view name,
                       std::vector<Type> (*infer)(const InferCall&) = infer_update<kStates>) {
  OpDef op{.name = name, .infer = infer, .flops = update_flops};
  op.updates[0] = 0;
  for (size_t i = 0; i < kStates; ++i) op.updates[i + 1] = static_cast<int8_t>(i + 2);
  return op;
}

// p, g, exp_avg_ipt, exp_avg_unc, step -> exp_avg_ipt', exp_avg_unc', their product.
std::vector<Type> infer_importance(const InferCall& c) {
  c.expect_arity(5, 5);
  c.expect_float(0);
  for (size_t i = 1; i < 4; ++i) c.expect(c.in(i) == c.in(0), "p, g and states must be alike");
  c.expect(c.in(4) == Type{DType::i64, {}}, "step must be an i64 scalar");
  return {c.in(0), c.in(0), c.in(0)};
}

// scores [n], keep [n] -> keep' [n] (1: the triplet stays), factor [n] for the singular values now.
std::vector<Type> infer_adalora(const InferCall& c) {
  c.expect_arity(3, 3);
  c.expect_float(0);
  c.expect(c.shape(0).rank() == 1 && c.in(0) == c.in(1), "scores and keep must be vectors");
  c.expect(c.in(2) == Type{DType::i64, {}}, "step must be an i64 scalar");
  return {c.in(1), c.in(0)};
}

constexpr OpDef kOps[] = {
    update<1>("sgd_update"),
    update<2>("adam_update"),
    update<4>("adam_8bit_update", infer_8bit),
    update<3>("amsgrad_update"),
    update<1>("lion_update"),
    update<1>("rmsprop_update"),
    update<1>("adagrad_update"),
    update<3>("adafactor_update"),  // states: row, column (or all), first moment
    {.name = "adalora_importance",
     .infer = infer_importance,
     .flops = update_flops,
     .updates = {2, 3, -1, -1, -1}},
    {.name = "adalora_allocate", .infer = infer_adalora, .updates = {1, -1, -1, -1, -1}},
    {.name = "lr_schedule", .infer = infer_schedule},
    {.name = "increment", .infer = infer_increment, .updates = {0, -1, -1, -1, -1}},
    {.name = "clip_coefficient", .infer = infer_clip},
};

}  // namespace

Family optimizer_ops() { return kOps; }

}  // namespace graft::ops
