// Thin products: vectors run along k, a block of 4x4 sums at a time. Included once per target.
#if defined(GRAFT_KERNELS_CPU_GEMM_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_GEMM_DOT_INL_H_
#undef GRAFT_KERNELS_CPU_GEMM_DOT_INL_H_
#else
#define GRAFT_KERNELS_CPU_GEMM_DOT_INL_H_
#endif

#include <algorithm>

#include "hwy/highway.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_tile-inl.h"
#include "kernels/cpu/part-inl.h"

HWY_BEFORE_NAMESPACE();
// A namespace of its own: per-target names of all kernel files meet in the parent.
namespace graft::cpu::HWY_NAMESPACE::gemm {
namespace hn = hwy::HWY_NAMESPACE;

struct DotRow {
  TileVec s0, s1, s2, s3;
};

template <class LoadFn, int kN>
HWY_INLINE void DotLoad(const LoadFn& load, const float* p, int64_t stride, DotRow& r) {
  r.s0 = load(p);
  if constexpr (kN > 1) r.s1 = load(p + stride);
  if constexpr (kN > 2) r.s2 = load(p + 2 * stride);
  if constexpr (kN > 3) r.s3 = load(p + 3 * stride);
}

template <int kN>
HWY_INLINE void DotMulAdd(TileVec a, const DotRow& b, DotRow& s) {
  s.s0 = hn::MulAdd(a, b.s0, s.s0);
  if constexpr (kN > 1) s.s1 = hn::MulAdd(a, b.s1, s.s1);
  if constexpr (kN > 2) s.s2 = hn::MulAdd(a, b.s2, s.s2);
  if constexpr (kN > 3) s.s3 = hn::MulAdd(a, b.s3, s.s3);
}

template <int kM, int kN, class LoadFn>
HWY_INLINE void DotStep(const LoadFn& load, const float* a, int64_t lda, const float* b,
                        int64_t ldb, DotRow& r0, DotRow& r1, DotRow& r2, DotRow& r3) {
  DotRow bv;
  DotLoad<LoadFn, kN>(load, b, ldb, bv);
  DotMulAdd<kN>(load(a), bv, r0);
  if constexpr (kM > 1) DotMulAdd<kN>(load(a + lda), bv, r1);
  if constexpr (kM > 2) DotMulAdd<kN>(load(a + 2 * lda), bv, r2);
  if constexpr (kM > 3) DotMulAdd<kN>(load(a + 3 * lda), bv, r3);
}

template <int kN>
HWY_INLINE void DotStore(const DotArgs& p, const DotRow& r, float* c) {
  const TileTag d;
  const auto put = [&](TileVec sum, float* out) HWY_ATTR {
    const float value = p.alpha * hn::GetLane(hn::SumOfLanes(d, sum));
    *out = p.base == nullptr ? value : p.base[out - p.c] + value;
  };
  put(r.s0, c);
  if constexpr (kN > 1) put(r.s1, c + 1);
  if constexpr (kN > 2) put(r.s2, c + 2);
  if constexpr (kN > 3) put(r.s3, c + 3);
}

template <int kM, int kN>
HWY_NOINLINE void DotBlock(const DotArgs& p, const float* a, const float* b, float* c) {
  const TileTag d;
  const auto zero = hn::Zero(d);
  DotRow r0{zero, zero, zero, zero}, r1 = r0, r2 = r0, r3 = r0;
  const auto whole = [&](const float* q) HWY_ATTR { return hn::LoadU(d, q); };
  int64_t k = 0;
  for (; k + kLanes <= p.k; k += kLanes) {
    DotStep<kM, kN>(whole, a + k, p.lda, b + k, p.ldb, r0, r1, r2, r3);
  }
  if (k < p.k) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(p.k - k));
    const auto part = [&](const float* q) HWY_ATTR { return LoadMasked(d, mask, q); };
    DotStep<kM, kN>(part, a + k, p.lda, b + k, p.ldb, r0, r1, r2, r3);
  }
  DotStore<kN>(p, r0, c);
  if constexpr (kM > 1) DotStore<kN>(p, r1, c + p.ldc);
  if constexpr (kM > 2) DotStore<kN>(p, r2, c + 2 * p.ldc);
  if constexpr (kM > 3) DotStore<kN>(p, r3, c + 3 * p.ldc);
}

template <int kM>
HWY_INLINE void DotRows(const DotArgs& p, int64_t i) {
  for (int64_t j = 0; j < p.n; j += 4) {
    const float* a = p.a + i * p.lda;
    const float* b = p.b + j * p.ldb;
    float* c = p.c + i * p.ldc + j;
    switch (std::min<int64_t>(4, p.n - j)) {
      case 1:
        DotBlock<kM, 1>(p, a, b, c);
        break;
      case 2:
        DotBlock<kM, 2>(p, a, b, c);
        break;
      case 3:
        DotBlock<kM, 3>(p, a, b, c);
        break;
      default:
        DotBlock<kM, 4>(p, a, b, c);
        break;
    }
  }
}

void Dot(const DotArgs& p) {
  int64_t i = 0;
  for (; i + 4 <= p.m; i += 4) DotRows<4>(p, i);
  switch (p.m - i) {
    case 1:
      DotRows<1>(p, i);
      break;
    case 2:
      DotRows<2>(p, i);
      break;
    case 3:
      DotRows<3>(p, i);
      break;
    default:
      break;
  }
}

}  // namespace graft::cpu::HWY_NAMESPACE::gemm
HWY_AFTER_NAMESPACE();

#endif  // toggle
