// Loops over one row of floats: full vectors, then one masked remainder. Included once per target,
// after hwy/highway.h.
#if defined(GRAFT_KERNELS_CPU_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_ROW_INL_H_
#undef GRAFT_KERNELS_CPU_ROW_INL_H_
#else
#define GRAFT_KERNELS_CPU_ROW_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "hwy/highway.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/part-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// f(i, mask) for i = 0, lanes, ...; the mask is full except in the last step.
template <class D, class F>
HWY_INLINE void EachVector(D d, size_t n, F f) {
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  const auto all = hn::FirstN(d, lanes);
  for (; i + lanes <= n; i += lanes) f(i, all);
  if (i < n) f(i, hn::FirstN(d, n - i));
}

// Sum of f(i, mask) over all vectors and lanes; lanes outside the mask do not count.
template <class D, class F>
HWY_INLINE float ReduceSum(D d, size_t n, F f) {
  auto sum = hn::Zero(d);
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    sum = hn::Add(sum, hn::IfThenElseZero(mask, f(i, mask)));
  });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <class D>
HWY_INLINE float ReduceMax(D d, const float* x, size_t n) {
  const auto low = hn::Set(d, -std::numeric_limits<float>::infinity());
  auto top = low;
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    top = hn::Max(top, hn::IfThenElse(mask, LoadMasked(d, mask, x + i), low));
  });
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
