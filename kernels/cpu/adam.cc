// Adam, with moments in floats and in blocks of 8-bit codes (kernels/dynamic_map.h). Of the latter
// a block is widened, stepped and made codes again within the nearest cache, so that memory sees 16
// bytes of an element where moments in floats cost 28.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/adam.cc"
#include <algorithm>
#include <array>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/part-inl.h"
#include "kernels/dynamic_map.h"
#include "kernels/update.h"

#ifndef GRAFT_KERNELS_CPU_ADAM_ONCE
#define GRAFT_KERNELS_CPU_ADAM_ONCE
namespace graft::cpu {
constexpr auto kBlock = static_cast<size_t>(dynamic_map::kBlock);

// Of the cells of a decade, where shares are nearest to them: rank = floor(slope share + shift), at
// most `last`.
struct Cells {
  float from, slope, shift, last;
};
template <bool kSigned>
constexpr std::array<Cells, dynamic_map::kDecades> kCells = [] {
  using S = dynamic_map::Shares<kSigned>;
  std::array<Cells, dynamic_map::kDecades> all{};
  for (int i = 0; i < dynamic_map::kDecades; ++i) {
    const auto at = static_cast<size_t>(i);
    all[at] = {static_cast<float>(S::lower_bound(S::first(i))),
               static_cast<float>(1 / (dynamic_map::kTop[at] * S::cell_width(i))),
               static_cast<float>(S::first(i) - 0.1 / S::cell_width(i)),
               static_cast<float>(S::first(i + 1) - 1)};
  }
  return all;
}();

// Operands of a step; the block `b` begins at b * kBlock, and at b of the magnitudes.
struct Adam8bitOperands {
  float* p;
  const float* grad;
  uint8_t *m, *v;
  float *absmax_m, *absmax_v;
};
}  // namespace graft::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kBlock>;
using V = hn::Vec<D>;
using Ints = hn::Rebind<int32_t, D>;
using Codes = hn::Rebind<uint8_t, D>;

using update::AdamStep;

HWY_INLINE void Moments(const AdamStep<float>& s, V p, V grad, V& m, V& v) {
  const D d;
  const V g = hn::MulAdd(grad, hn::Set(d, s.scale), hn::Mul(hn::Set(d, s.decay), p));
  m = hn::MulAdd(hn::Set(d, s.b1), m, hn::Mul(hn::Set(d, s.n1), g));
  v = hn::MulAdd(hn::Set(d, s.b2), v, hn::Mul(hn::Mul(hn::Set(d, s.n2), g), g));
}

HWY_INLINE V Parameter(const AdamStep<float>& s, V p, V m, V v) {
  const D d;
  const V divisor = hn::MulAdd(hn::Sqrt(v), hn::Set(d, s.root), hn::Set(d, s.eps));
  return hn::NegMulAdd(hn::Set(d, s.size), hn::Div(m, divisor), hn::Mul(p, hn::Set(d, s.keep)));
}

void StepFloats(const AdamStep<float>& s, float* p, const float* grad, float* m, float* v,
                size_t n) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V old = hn::LoadU(d, p + i);
    V first = hn::LoadU(d, m + i), second = hn::LoadU(d, v + i);
    Moments(s, old, hn::LoadU(d, grad + i), first, second);
    hn::StoreU(first, d, m + i);
    hn::StoreU(second, d, v + i);
    hn::StoreU(Parameter(s, old, first, second), d, p + i);
  }
  if (i == n) return;
  const auto mask = hn::FirstN(d, n - i);
  const V old = LoadMasked(d, mask, p + i);
  V first = LoadMasked(d, mask, m + i), second = LoadMasked(d, mask, v + i);
  Moments(s, old, LoadMasked(d, mask, grad + i), first, second);
  StoreMasked(first, mask, d, m + i);
  StoreMasked(second, mask, d, v + i);
  StoreMasked(Parameter(s, old, first, second), mask, d, p + i);
}

// ---------------------------------------------------------------- 8 bits

template <bool kSigned>
HWY_INLINE V Widen(const uint8_t* codes, V absmax) {
  const auto at = hn::PromoteTo(Ints(), hn::LoadU(Codes(), codes));
  return hn::Mul(hn::GatherIndex(D(), dynamic_map::kShares<float, kSigned>.data(), at), absmax);
}

// The rank (dynamic_map::Shares) nearest to shares of 0 to 1. Shares are the middles of equal cells
// within a decade, so the cell in which a number lies is the nearest; between two decades, where
// the cells change their width, the middle of two shares lies within the upper one's first cell.
template <bool kSigned>
HWY_INLINE V NearestRank(V share) {
  const D d;
  V slope = hn::Zero(d), shift = hn::Zero(d), last = hn::Zero(d);
  for (const Cells& cells : kCells<kSigned>) {
    const auto here = hn::Ge(share, hn::Set(d, cells.from));
    slope = hn::IfThenElse(here, hn::Set(d, cells.slope), slope);
    shift = hn::IfThenElse(here, hn::Set(d, cells.shift), shift);
    last = hn::IfThenElse(here, hn::Set(d, cells.last), last);
  }
  const V rank = hn::Min(hn::Floor(hn::MulAdd(share, slope, shift)), last);
  constexpr int kOne = dynamic_map::Shares<kSigned>::kCount - 1;
  constexpr auto kFrom = static_cast<float>(dynamic_map::Shares<kSigned>::lower_bound(kOne));
  return hn::IfThenElse(hn::Ge(share, hn::Set(d, kFrom)), hn::Set(d, float{kOne}), rank);
}

HWY_INLINE void StoreCodes(V codes, uint8_t* to) {
  hn::StoreU(hn::DemoteTo(Codes(), hn::ConvertTo(Ints(), codes)), Codes(), to);
}

HWY_INLINE void NarrowSigned(V x, V absmax, uint8_t* codes) {
  const D d;
  const V zero = hn::Set(d, static_cast<float>(dynamic_map::kZero<true>));
  const V rank = hn::Min(NearestRank<true>(hn::Div(hn::Abs(x), absmax)),
                         hn::IfThenElse(hn::Lt(x, hn::Zero(d)), zero,  // there is no -1
                                        hn::Set(d, 256.0f)));
  StoreCodes(hn::Add(zero, hn::CopySign(rank, x)), codes);
}

// A second moment that is not zero does not become zero, by which the next step would divide.
HWY_INLINE void NarrowUnsigned(V x, V absmax, uint8_t* codes) {
  const D d;
  const V least = hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), hn::Set(d, 1.0f));
  StoreCodes(hn::Max(NearestRank<false>(hn::Div(x, absmax)), least), codes);
}

// One whole block.
HWY_INLINE void StepBlock(const AdamStep<float>& s, float* p, const float* grad, uint8_t* m,
                          uint8_t* v, float& absmax_m, float& absmax_v) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float wide_m[kBlock], wide_v[kBlock];
  const V scale_m = hn::Set(d, absmax_m), scale_v = hn::Set(d, absmax_v);
  V most_m = hn::Zero(d), most_v = hn::Zero(d);
  for (size_t i = 0; i < kBlock; i += lanes) {
    const V old = hn::LoadU(d, p + i);
    V first = Widen<true>(m + i, scale_m), second = Widen<false>(v + i, scale_v);
    Moments(s, old, hn::LoadU(d, grad + i), first, second);
    hn::StoreU(Parameter(s, old, first, second), d, p + i);
    hn::Store(first, d, wide_m + i);
    hn::Store(second, d, wide_v + i);
    most_m = hn::Max(most_m, hn::Abs(first));
    most_v = hn::Max(most_v, second);
  }
  absmax_m = hn::GetLane(hn::MaxOfLanes(d, most_m));
  absmax_v = hn::GetLane(hn::MaxOfLanes(d, most_v));
  // Where all are zero, so are their shares of anything.
  const V by_m = hn::Set(d, absmax_m == 0 ? 1.0f : absmax_m),
          by_v = hn::Set(d, absmax_v == 0 ? 1.0f : absmax_v);
  for (size_t i = 0; i < kBlock; i += lanes) {
    NarrowSigned(hn::Load(d, wide_m + i), by_m, m + i);
    NarrowUnsigned(hn::Load(d, wide_v + i), by_v, v + i);
  }
}

// Blocks from `begin` to `end` of n elements. One that is not whole goes through a copy.
void StepBlocks(const AdamStep<float>& step, const Adam8bitOperands& o, size_t begin, size_t end,
                size_t n) {
  for (size_t b = begin; b < end; ++b) {
    const size_t at = b * kBlock, count = std::min(kBlock, n - at);
    if (count == kBlock) {
      StepBlock(step, o.p + at, o.grad + at, o.m + at, o.v + at, o.absmax_m[b], o.absmax_v[b]);
      continue;
    }
    float p[kBlock] = {}, grad[kBlock] = {};
    uint8_t m[kBlock], v[kBlock];
    std::fill_n(m, kBlock, static_cast<uint8_t>(dynamic_map::kZero<true>));
    std::fill_n(v, kBlock, static_cast<uint8_t>(dynamic_map::kZero<false>));
    std::copy_n(o.p + at, count, p);
    std::copy_n(o.grad + at, count, grad);
    std::copy_n(o.m + at, count, m);
    std::copy_n(o.v + at, count, v);
    StepBlock(step, p, grad, m, v, o.absmax_m[b], o.absmax_v[b]);
    std::copy_n(p, count, o.p + at);
    std::copy_n(m, count, o.m + at);
    std::copy_n(v, count, o.v + at);
  }
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(StepFloats);
HWY_EXPORT(StepBlocks);

namespace {

using update::AdamStep;

void Adam(const KernelCall& c) {
  const AdamStep<float> step(c.attr<AdamAttrs>(), update::Scalars<float>(c, 2));
  float *p = c.out(0).as<float>(), *m = c.out(1).as<float>(), *v = c.out(2).as<float>();
  const float* grad = c.in(1).as<float>();
  const auto floats = GRAFT_DISPATCH(StepFloats);
  parallel_for(c.out(0).elements(), update::kGrain, [&](int64_t begin, int64_t end) {
    floats(step, p + begin, grad + begin, m + begin, v + begin, static_cast<size_t>(end - begin));
  });
}

void Adam8bit(const KernelCall& c) {
  const update::AdamStep<float> step(c.attr<AdamAttrs>(), update::Scalars<float>(c, 4));
  const Adam8bitOperands o{c.out(0).as<float>(),   c.in(1).as<float>(),  c.out(1).as<uint8_t>(),
                           c.out(3).as<uint8_t>(), c.out(2).as<float>(), c.out(4).as<float>()};
  const auto n = static_cast<size_t>(c.out(0).elements());
  const auto blocks = GRAFT_DISPATCH(StepBlocks);
  parallel_for(c.out(2).elements(), update::kGrain / dynamic_map::kBlock,
               [&](int64_t begin, int64_t end) {
                 blocks(step, o, static_cast<size_t>(begin), static_cast<size_t>(end), n);
               });
}

constexpr KernelEntry kKernels[] = {{"adam_update", Adam}, {"adam_8bit_update", Adam8bit}};

}  // namespace

Family adam_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
