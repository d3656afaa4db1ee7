// Optimizer updates, and updates of a weight in fewer numbers than it has.
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/dynamic_map.h"
#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

Tensor step_at(int64_t step) { return Tensor::from<int64_t>({}, std::vector<int64_t>{step}); }

// p, g, states, lr, step, grad_scale. Second moments must not be negative.
std::vector<Tensor> update_operands(const Shape& p, const std::vector<Shape>& states,
                                    int64_t step) {
  std::vector<Tensor> in = {floats(p, 1), floats(p, 2)};
  for (size_t i = 0; i < states.size(); ++i) in.push_back(floats(states[i], 3 + i, 0.1, 1));
  in.insert(in.end(), {Tensor::scalar(0.01f), step_at(step), Tensor::scalar(0.5f)});
  return in;
}

template <typename A>
KernelRow update_row(size_t states, std::vector<A> variants) {
  return {.of_length = [states, variants](int64_t n) {
    std::vector<KernelCase> cases;
    for (const A& a : variants) {
      for (const int64_t step : {0, 9}) {
        cases.push_back({Attrs::of(a).str() + fmt::format(", step {}", step),
                         Attrs::of(a),
                         update_operands({n}, std::vector<Shape>(states, Shape{n}), step),
                         {.result = 4, .input = 4}});
      }
    }
    return cases;
  }};
}

// Codes of every value, of blocks of several sizes; one block has had no gradient yet.
KernelRow adam_8bit_row() {
  const auto of = [](int64_t n, const AdamAttrs& a, int64_t step, double gradients) {
    const int64_t blocks = dynamic_map::blocks(n);
    Tensor m = floats({blocks}, 5, 0.1, 1), v = floats({blocks}, 6, 0.1, 1);
    if (blocks > 1) m.data<float>()[1] = v.data<float>()[1] = 0;
    return KernelCase{fmt::format("{}, step {}", Attrs::of(a).str(), step),
                      Attrs::of(a),
                      {floats({n}, 1), floats({n}, 2, -gradients, gradients),
                       ints({n}, 0, 256, 3, DType::u8), m, ints({n}, 0, 256, 4, DType::u8), v,
                       Tensor::scalar(0.01f), step_at(step), Tensor::scalar(0.5f)},
                      {.result = 4, .largest = 1, .codes = 1}};
  };
  return {.of_length =
              [of](int64_t n) {
                return std::vector{of(n, {}, 0, 1), of(n, {.weight_decay = 0.1}, 9, 1),
                                   of(n, {.weight_decay = 0.1, .decoupled = false}, 9, 1e-3),
                                   of(n, {}, 9, 0)};
              },
          .special =
              [of] {
                return std::vector{of(700, {}, 9, 1), of(512, {}, 0, 1e-18)};
              }};
}

KernelRow adafactor_row() {
  return {.of_length =
              [](int64_t n) {
                std::vector<KernelCase> cases;
                for (const bool torch_rule : {false, true}) {
                  AdafactorAttrs a{.torch_rule = torch_rule};
                  if (!torch_rule) a.beta1 = 0.9;
                  const Shape none{0};
                  for (const auto& [p, row, column] : {std::tuple{Shape{3, n}, Shape{3}, Shape{n}},
                                                       {Shape{2, n, 2}, Shape{2, n}, Shape{2, 2}},
                                                       {Shape{n}, none, Shape{n}}}) {
                    cases.push_back({p.str(),
                                     Attrs::of(a),
                                     update_operands(p, {row, column, a.beta1 >= 0 ? p : none}, 4),
                                     {.result = 2, .input = 2}});
                  }
                }
                return cases;
              },
          .shortest = 1};
}

KernelRow schedule_row() {
  return {.of_length = [](int64_t n) {
    std::vector<KernelCase> cases;
    for (const char* kind : {"constant", "constant_with_warmup", "linear", "cosine",
                             "cosine_with_restarts", "polynomial", "inverse_sqrt", "wordnet"}) {
      cases.push_back({kind,
                       Attrs::of(ScheduleAttrs{.kind = kind, .lr = 0.3, .warmup = 4, .total = 20}),
                       {step_at(n)},
                       {.result = 0.5}});
    }
    return cases;
  }};
}

KernelRow importance_row() {
  return {.of_length = [](int64_t n) {
    std::vector<KernelCase> cases;
    for (const int64_t step : {3, 30}) {
      cases.push_back({fmt::format("step {}", step),
                       Attrs::of(AdaloraImportanceAttrs{0.85, 0.7, 10}),
                       {floats({n}, 1), floats({n}, 2), floats({n}, 3, 0, 1), floats({n}, 4, 0, 1),
                        step_at(step)},
                       {.result = 2, .input = 2}});
    }
    return cases;
  }};
}

KernelRow allocate_row() {
  const auto of = [](const Tensor& scores, int64_t step, const AdaloraAttrs& a) {
    const auto n = scores.elements();
    return KernelCase{fmt::format("step {}", step),
                      Attrs::of(a),
                      {scores, ints({n}, 0, 2, 5).cast(DType::f32), step_at(step)},
                      {}};
  };
  return {
      .of_length =
          [of](int64_t n) {
            std::vector<KernelCase> cases;
            const AdaloraAttrs a{
                .init = n, .target = n / 3, .tinit = 2, .tfinal = 4, .delta_t = 3, .total = 20};
            for (const int64_t step : {0, 3, 9, 16, 18}) cases.push_back(of(floats({n}), step, a));
            return cases;
          },
      .special =
          [of] {
            // A diverged run: scores that are not numbers go first, and nothing is read outside.
            std::vector<float> scores(40);
            for (size_t i = 0; i < scores.size(); ++i)
              scores[i] =
                  i % 3 != 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(i);
            return std::vector{
                of(values(scores), 9,
                   {.init = 40, .target = 7, .tinit = 2, .tfinal = 4, .total = 20}),
                of(values(scores), 9,
                   {.init = 40, .target = 0, .tinit = 2, .tfinal = 11, .total = 20}),
                // No step prunes between two equal bounds.
                of(floats({5}), 2, {.init = 5, .target = 2, .tinit = 2, .tfinal = 4, .total = 6})};
          }};
}

// ---------------------------------------------------------------- subspaces
// Ascending positions of every other entry from `offset` - 3 on: some lie in front of the tensor
// and some behind.
Tensor positions(int64_t n, int64_t offset) {
  std::vector<int64_t> at;
  for (int64_t i = offset - 3; i < offset + n + 3; i += 2) at.push_back(i);
  return int_values(at);
}

KernelRow sparse_row(bool gather) {
  const auto of = [gather](const Tensor& w, const Tensor& index, int64_t offset) {
    std::vector<Tensor> in = {w, index};
    if (!gather) in.insert(in.begin() + 1, floats(index.shape(), 2));
    return KernelCase{"positions from " + std::to_string(offset),
                      Attrs::of(SparseAttrs{offset}),
                      in,
                      {.result = 1, .input = 1}};
  };
  return {.of_length =
              [of](int64_t n) {
                return std::vector{of(floats({n}), positions(n, 0), 0),
                                   of(floats({2, n}), positions(2 * n, 100), 100)};
              },
          .special =
              [of] {
                return std::vector{
                    of(floats({4}), int_values({2, -7, 1, int64_t{1} << 62, 3, -1, 0, 9}), 0)};
              }};
}

KernelRow gate_row(bool backward) {
  return {.of_length = [backward](int64_t n) {
    std::vector<KernelCase> cases;
    for (const bool drawn : {false, true}) {
      std::vector<Tensor> in = {floats({n}, 1, -3, 3)};
      if (backward) in.insert(in.begin(), floats({n}, 2));
      if (drawn) in.push_back(int_values({3, 8}));
      cases.push_back({drawn ? "drawn" : "median", Attrs::of(HardConcreteAttrs{-0.2, 1.1, 5}), in,
                       backward ? Tolerance{.result = 8, .input = 4}
                                : Tolerance{.result = 4, .floor = 8 * 0x1p-23}});
    }
    return cases;
  }};
}

KernelRow draw_row() {
  return {.of_length =
              [](int64_t n) {
                return std::vector<KernelCase>{
                    {"as long", Attrs::of(FastfoodAttrs{n, n, 3, 4}), {}, {.result = 1}},
                    {"short", Attrs::of(FastfoodAttrs{n, 2, 3, 4}), {}, {.result = 1}}};
              },
          .shortest = 1};
}

KernelRow fastfood_row(bool adjoint) {
  return {.of_length =
              [adjoint](int64_t n) {
                std::vector<KernelCase> cases;
                const auto length = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
                Tensor order(DType::i32, {length});  // an odd factor permutes a power of two
                for (int64_t i = 0; i < length; ++i)
                  order.data<int32_t>()[i] = static_cast<int32_t>((5 * i + 3) % length);
                for (const int64_t k : {int64_t{3}, n, 2 * n}) {
                  const int64_t kept = std::min(k, length);
                  Tensor signs = ints({kept}, 0, 2).cast(DType::f32);
                  for (float& s : signs.span<float>()) s = 2 * s - 1;
                  // Two transforms add up `length` terms each of the size of the operands.
                  cases.push_back({fmt::format("{} numbers", k),
                                   Attrs::of(FastfoodAttrs{n, k, 3, 4}),
                                   {floats({adjoint ? n : k}), floats({length}, 2), order, signs},
                                   {.largest = 8, .input = 8 * static_cast<double>(length)}});
                }
                return cases;
              },
          .shortest = 1};
}

}  // namespace

KernelRows optimizer_kernel_rows() {
  KernelRows rows;
  rows["sgd_update"] =
      update_row<SgdAttrs>(1, {{},
                               {.momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01},
                               {.momentum = 0.9, .nesterov = true}});
  rows["adam_update"] = update_row<AdamAttrs>(
      2, {{}, {.weight_decay = 0.1}, {.weight_decay = 0.1, .decoupled = false}});
  rows["adam_8bit_update"] = adam_8bit_row();
  rows["amsgrad_update"] = update_row<AdamAttrs>(3, {{.weight_decay = 0.1, .amsgrad = true}});
  rows["lion_update"] = update_row<LionAttrs>(1, {{.weight_decay = 0.1}});
  rows["rmsprop_update"] = update_row<RmspropAttrs>(1, {{.weight_decay = 0.1}});
  rows["adagrad_update"] = update_row<AdagradAttrs>(1, {{.lr_decay = 0.1, .weight_decay = 0.1}});
  rows["adafactor_update"] = adafactor_row();
  rows["adalora_importance"] = importance_row();
  rows["adalora_allocate"] = allocate_row();
  rows["lr_schedule"] = schedule_row();
  rows["increment"].of_length = [](int64_t n) {
    return std::vector<KernelCase>{{"step", Attrs::of(NoAttrs{}), {step_at(n)}, {}}};
  };
  rows["clip_coefficient"].of_length = [](int64_t n) {
    return std::vector<KernelCase>{{"norm",
                                    Attrs::of(ScalarAttrs{1.5}),
                                    {Tensor::scalar(static_cast<float>(n) / 8)},
                                    {.result = 0.5}}};
  };
  return rows;
}

KernelRows subspace_kernel_rows() {
  return {{"sparse_add", sparse_row(false)},       {"sparse_gather", sparse_row(true)},
          {"hard_concrete", gate_row(false)},      {"hard_concrete_backward", gate_row(true)},
          {"fastfood_draw", draw_row()},           {"fastfood", fastfood_row(false)},
          {"fastfood_adjoint", fastfood_row(true)}};
}

}  // namespace graft::testing
