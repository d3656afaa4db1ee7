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
using Quads = hn::CappedTag<float, 16>;  // as many blocks of four as a vector has, up to a line

// Each block of four floats to its own place, `step` floats apart.
template <class D>
HWY_INLINE void StoreBlocks(D d, hn::Vec<D> v, float* out, int64_t step) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    hn::StoreU(v, d, out);
  } else {
    const hn::Half<D> half;
    constexpr int64_t kBlocks = hn::MaxLanes(D()) / 8;
    StoreBlocks(half, hn::LowerHalf(half, v), out, step);
    StoreBlocks(half, hn::UpperHalf(half, v), out + kBlocks * step, step);
  }
}

// out[k * width + r] for r < 4, k < lanes: transposes of 4x4 blocks.
template <class D>
HWY_INLINE void TransposeBlocks(D d, const float* src, int64_t stride, hn::Vec<D> alpha, float* out,
                                int64_t width) {
  const hn::RepartitionToWide<D> wide;
  const auto r0 = hn::Mul(alpha, hn::LoadU(d, src));
  const auto r1 = hn::Mul(alpha, hn::LoadU(d, src + stride));
  const auto r2 = hn::Mul(alpha, hn::LoadU(d, src + 2 * stride));
  const auto r3 = hn::Mul(alpha, hn::LoadU(d, src + 3 * stride));
  const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
  const auto put = [&](auto v, int64_t k)
                       HWY_ATTR { StoreBlocks(d, hn::BitCast(d, v), out + k * width, 4 * width); };
  put(hn::InterleaveLower(wide, low01, low23), 0);
  put(hn::InterleaveUpper(wide, low01, low23), 1);
  put(hn::InterleaveLower(wide, high01, high23), 2);
  put(hn::InterleaveUpper(wide, high01, high23), 3);
}

// As many steps along k as fill whole vectors, from `k` on. The last four rows overlap those before
// them, which writes some elements twice but needs no code for odd row counts.
template <class D>
HWY_INLINE int64_t PackBlocks(D d, const PackArgs& p, int64_t k) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto alpha = hn::Set(d, p.alpha);
  for (; k + lanes <= p.k; k += lanes) {
    const float* src = p.src + k;
    float* out = p.out + k * p.width;
    for (int64_t r = 0; r < p.rows; r += 4) {
      const int64_t at = std::min(r, p.rows - 4);
      TransposeBlocks(d, src + at * p.stride, p.stride, alpha, out + at, p.width);
    }
  }
  return k;
}
#endif

// Fetches all rows, one after another. From memory that is twice as fast as the order of the
// transposition, whose many streams no prefetcher follows (8 against 18 GB/s); when the rows are in
// L2 already it costs half a percent of a product.
HWY_INLINE void FetchRows(const PackArgs& p) {
  constexpr int64_t kLine = 16;
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* row = p.src + r * p.stride;
    for (int64_t k = 0; k < p.k; k += kLine) hwy::Prefetch(row + k);
  }
}

// Rows contiguous along k are transposed in 4x4 blocks.
void PackAlongK(const PackArgs& p) {
  FetchRows(p);
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  if (p.rows >= 4) k = PackBlocks(Quad(), p, PackBlocks(Quads(), p, 0));
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
