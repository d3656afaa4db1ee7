// Kernels that draw random numbers: dropout, and the stochastic gates of diff pruning.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/random.cc"
#include "kernels/random.h"

#include <algorithm>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/random-inl.h"
#include "kernels/cpu/row-inl.h"

#ifndef GRAFT_KERNELS_CPU_RANDOM_CC_
#define GRAFT_KERNELS_CPU_RANDOM_CC_
namespace graft::cpu {
struct DropoutArgs {
  const RandomStream* random;
  const float* x;
  float* y;
  size_t n;
  float p;
};
struct GateArgs {
  const RandomStream* random;  // null: u = 1/2
  const float *alpha, *dz;     // dz null: the gate, else its gradient
  float* out;
  size_t n;
  float lower, upper;
};
}  // namespace graft::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// f(first, count, bits) for each group of numbers in [begin, end).
template <class F>
HWY_INLINE void EachGroup(const RandomStream* random, size_t n, int64_t begin, int64_t end, F f) {
  HWY_ALIGN uint32_t bits[kDrawGroup] = {};
  for (int64_t group = begin; group < end; ++group) {
    const size_t first = static_cast<size_t>(group) * kDrawGroup;
    if (random != nullptr) DrawBits(*random, static_cast<uint64_t>(group), bits);
    f(first, std::min(kDrawGroup, n - first), bits);
  }
}

// y = x / (1 - p) where u >= p, else 0.
void DropoutGroups(const DropoutArgs& a, int64_t begin, int64_t end) {
  const hn::CappedTag<float, kDrawGroup> d;
  const auto p = hn::Set(d, a.p), keep = hn::Set(d, 1 / (1 - a.p));
  EachGroup(a.random, a.n, begin, end,
            [&](size_t first, size_t count, const uint32_t* bits) HWY_ATTR {
              EachVector(d, count, [&](size_t i, auto mask) HWY_ATTR {
                const auto kept = hn::Mul(LoadMasked(d, mask, a.x + first + i), keep);
                const auto y = hn::IfThenElseZero(hn::Ge(UniformOf(d, bits + i), p), kept);
                StoreMasked(y, mask, d, a.y + first + i);
              });
            });
}

// s = sigmoid(log u - log(1 - u) + alpha) with u in [1e-4, 1 - 1e-4], stretched to (lower, upper)
// and cut to [0, 1]; the slope is zero where it is cut.
void GateGroups(const GateArgs& a, int64_t begin, int64_t end) {
  const hn::CappedTag<float, kDrawGroup> d;
  const auto one = hn::Set(d, 1.0f), zero = hn::Zero(d);
  const auto lower = hn::Set(d, a.lower), width = hn::Set(d, a.upper - a.lower);
  EachGroup(
      a.random, a.n, begin, end, [&](size_t first, size_t count, const uint32_t* bits) HWY_ATTR {
        EachVector(d, count, [&](size_t i, auto mask) HWY_ATTR {
          auto logit = LoadMasked(d, mask, a.alpha + first + i);
          if (a.random != nullptr) {
            // 1 - u from the exact 1 - x: near 1 the rounding of u would show in its logarithm.
            const auto x = UniformOf(d, bits + i);
            const auto scale = hn::Set(d, 1 - 2e-4f), least = hn::Set(d, 1e-4f);
            const auto u = hn::MulAdd(scale, x, least);
            const auto rest = hn::MulAdd(scale, hn::Sub(one, x), least);
            logit = hn::Add(hn::Sub(hn::Log(d, u), hn::Log(d, rest)), logit);
          }
          const auto s = SigmoidV(d, logit);
          const auto z = hn::MulAdd(s, width, lower);
          if (a.dz == nullptr) {
            StoreMasked(Clamped(d, z, 0.0f, 1.0f), mask, d, a.out + first + i);
            return;
          }
          const auto slope = hn::Mul(width, hn::Mul(s, hn::Sub(one, s)));
          const auto inside = hn::And(hn::Gt(z, zero), hn::Lt(z, one));
          const auto dz = LoadMasked(d, mask, a.dz + first + i);
          StoreMasked(hn::IfThenElseZero(inside, hn::Mul(dz, slope)), mask, d, a.out + first + i);
        });
      });
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(DropoutGroups);
HWY_EXPORT(GateGroups);

namespace {

constexpr int64_t kGrain = 64;  // groups

int64_t Groups(size_t n) { return static_cast<int64_t>((n + kDrawGroup - 1) / kDrawGroup); }

void Dropout(const KernelCall& c) {  // x, rng -> y
  const auto& attrs = c.attr<DropoutAttrs>();
  const RandomStream random = stream_of(c.in(1), attrs.stream);
  const DropoutArgs a{&random, c.in(0).as<float>(), c.out().as<float>(),
                      static_cast<size_t>(c.out().elements()), static_cast<float>(attrs.p)};
  const auto groups = GRAFT_DISPATCH(DropoutGroups);
  parallel_for(Groups(a.n), kGrain, [&](int64_t begin, int64_t end) { groups(a, begin, end); });
}

// [dz,] alpha, rng -> z or dalpha
template <bool kBackward>
void HardConcrete(const KernelCall& c) {
  const auto& attrs = c.attr<HardConcreteAttrs>();
  constexpr size_t kAlpha = kBackward ? 1 : 0;
  const bool drawn = c.has(kAlpha + 1);
  const RandomStream random =
      drawn ? stream_of(c.in(kAlpha + 1), attrs.stream) : RandomStream(0, 0);
  const GateArgs a{drawn ? &random : nullptr,
                   c.in(kAlpha).as<float>(),
                   kBackward ? c.in(0).as<float>() : nullptr,
                   c.out().as<float>(),
                   static_cast<size_t>(c.out().elements()),
                   static_cast<float>(attrs.lower),
                   static_cast<float>(attrs.upper)};
  const auto groups = GRAFT_DISPATCH(GateGroups);
  parallel_for(Groups(a.n), kGrain, [&](int64_t begin, int64_t end) { groups(a, begin, end); });
}

constexpr KernelEntry kKernels[] = {{"dropout", Dropout},
                                    {"hard_concrete", HardConcrete<false>},
                                    {"hard_concrete_backward", HardConcrete<true>}};

}  // namespace

Family random_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
