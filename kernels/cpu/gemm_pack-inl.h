// Packers of the matrix product. Included once per target.
#if defined(GRAFT_KERNELS_CPU_GEMM_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_GEMM_PACK_INL_H_
#undef GRAFT_KERNELS_CPU_GEMM_PACK_INL_H_
#else
#define GRAFT_KERNELS_CPU_GEMM_PACK_INL_H_
#endif

#include <algorithm>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_kernels.h"

HWY_BEFORE_NAMESPACE();
// A namespace of its own: per-target names of all kernel files meet in the parent.
namespace graft::cpu::HWY_NAMESPACE::gemm {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE void ZeroColumns(const PackArgs& p) {
  if (p.rows == p.width) return;
  for (int64_t k = 0; k < p.k; ++k) {
    std::fill(p.out + k * p.width + p.rows, p.out + (k + 1) * p.width, 0.0f);
  }
}

#if HWY_TARGET != HWY_SCALAR
using Quad = hn::Full128<float>;

// out[k * width + r] for r, k < 4: a transpose of four quads.
HWY_INLINE void TransposeQuads(const float* src, int64_t stride, hn::Vec<Quad> alpha, float* out,
                               int64_t width) {
  const Quad d;
  const hn::RepartitionToWide<Quad> wide;
  const auto r0 = hn::Mul(alpha, hn::LoadU(d, src));
  const auto r1 = hn::Mul(alpha, hn::LoadU(d, src + stride));
  const auto r2 = hn::Mul(alpha, hn::LoadU(d, src + 2 * stride));
  const auto r3 = hn::Mul(alpha, hn::LoadU(d, src + 3 * stride));
  const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, low01, low23)), d, out);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23)), d, out + width);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, high01, high23)), d, out + 2 * width);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23)), d, out + 3 * width);
}
#endif

// Fetches all rows, one after another. From memory that is some three times faster than the order
// of the transposition, whose many streams no prefetcher follows (5 against 17 GB/s); when the rows
// are in L2 already it costs half a percent of a product.
HWY_INLINE void FetchRows(const PackArgs& p) {
  constexpr int64_t kLine = 16;
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* row = p.src + r * p.stride;
    for (int64_t k = 0; k < p.k; k += kLine) hwy::Prefetch(row + k);
  }
}

// Rows contiguous along k are transposed in 4x4 blocks. The last four rows overlap those before
// them, which writes some elements twice but needs no code for odd row counts.
void PackAlongK(const PackArgs& p) {
  FetchRows(p);
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  if (p.rows >= 4) {
    const auto alpha = hn::Set(Quad(), p.alpha);
    for (; k + 4 <= p.k; k += 4) {
      float* out = p.out + k * p.width;
      for (int64_t r = 0; r + 4 <= p.rows; r += 4) {
        TransposeQuads(p.src + r * p.stride + k, p.stride, alpha, out + r, p.width);
      }
      if (p.rows % 4 != 0) {
        const int64_t r = p.rows - 4;
        TransposeQuads(p.src + r * p.stride + k, p.stride, alpha, out + r, p.width);
      }
    }
  }
#endif
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t i = k; i < p.k; ++i) p.out[i * p.width + r] = p.alpha * p.src[r * p.stride + i];
  }
  ZeroColumns(p);
}

// Rows contiguous along r are copied, with the same overlap at the end.
void PackAcrossK(const PackArgs& p) {
#if HWY_TARGET == HWY_SCALAR
  using Tag = hn::CappedTag<float, 1>;
#else
  using Tag = hn::CappedTag<float, 4>;
#endif
  const hn::CappedTag<float, 16> wide;
  const Tag narrow;
  const auto n = static_cast<int64_t>(hn::Lanes(wide)), q = static_cast<int64_t>(hn::Lanes(narrow));
  const auto alpha = hn::Set(wide, p.alpha);
  const auto narrow_alpha = hn::Set(narrow, p.alpha);
  if (p.rows % n == 0) {
    for (int64_t k = 0; k < p.k; ++k) {
      const float* src = p.src + k * p.stride;
      float* out = p.out + k * p.width;
      for (int64_t r = 0; r < p.rows; r += n) {
        hn::StoreU(hn::Mul(alpha, hn::LoadU(wide, src + r)), wide, out + r);
      }
    }
  } else if (p.rows >= q) {
    for (int64_t k = 0; k < p.k; ++k) {
      const float* src = p.src + k * p.stride;
      float* out = p.out + k * p.width;
      for (int64_t r = 0; r + q <= p.rows; r += q) {
        hn::StoreU(hn::Mul(narrow_alpha, hn::LoadU(narrow, src + r)), narrow, out + r);
      }
      const int64_t r = p.rows - q;
      hn::StoreU(hn::Mul(narrow_alpha, hn::LoadU(narrow, src + r)), narrow, out + r);
    }
  } else {
    for (int64_t k = 0; k < p.k; ++k) {
      for (int64_t r = 0; r < p.rows; ++r) {
        p.out[k * p.width + r] = p.alpha * p.src[k * p.stride + r];
      }
    }
  }
  ZeroColumns(p);
}

}  // namespace graft::cpu::HWY_NAMESPACE::gemm
HWY_AFTER_NAMESPACE();

#endif  // toggle
