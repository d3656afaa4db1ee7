// Loading and storing the first lanes of a vector. Included once per target, after hwy/highway.h.
#if defined(GRAFT_KERNELS_CPU_PART_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_PART_INL_H_
#undef GRAFT_KERNELS_CPU_PART_INL_H_
#else
#define GRAFT_KERNELS_CPU_PART_INL_H_
#endif

#include <algorithm>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Use these, not Highway's MaskedLoad and BlendedStore: where the instruction set has no masks
// (NEON, the fallbacks) those read a whole vector, which may leave the memory that is mapped, and
// on NEON write all of it back, which undoes what another thread wrote behind the mask meanwhile.
// Masks are of first lanes (FirstN). A lower bit is a better target: from AVX2 on there are masks.
#undef GRAFT_HAS_MASKS
#define GRAFT_HAS_MASKS (HWY_TARGET <= HWY_AVX2)

// Lanes outside the mask are zero and their memory is not touched.
template <class D, class M>
HWY_INLINE hn::Vec<D> LoadMasked(D d, M mask, const float* p) {
#if GRAFT_HAS_MASKS
  return hn::MaskedLoad(mask, d, p);
#else
  const size_t n = hn::CountTrue(d, mask);
  if (n == hn::Lanes(d)) return hn::LoadU(d, p);
  HWY_ALIGN float lanes[hn::MaxLanes(D())] = {};
  std::copy_n(p, n, lanes);
  return hn::Load(d, lanes);
#endif
}

template <class D, class M>
HWY_INLINE void StoreMasked(hn::Vec<D> v, M mask, D d, float* p) {
#if GRAFT_HAS_MASKS
  hn::BlendedStore(v, mask, d, p);
#else
  const size_t n = hn::CountTrue(d, mask);
  if (n == hn::Lanes(d)) return hn::StoreU(v, d, p);
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(v, d, lanes);
  std::copy_n(lanes, n, p);
#endif
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
