// One row times packed panels: what a decoding step consists of. Included once per target.
#if defined(GRAFT_KERNELS_CPU_GEMM_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_GEMM_ROW_INL_H_
#undef GRAFT_KERNELS_CPU_GEMM_ROW_INL_H_
#else
#define GRAFT_KERNELS_CPU_GEMM_ROW_INL_H_
#endif

#include <algorithm>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
// A namespace of its own: per-target names of all kernel files meet in the parent.
namespace graft::cpu::HWY_NAMESPACE::gemm {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors of a panel, and panels that are read side by side. A sum is one chain along k, each step
// of which waits four cycles for the one before: eight chains keep the multiply-adds ahead of
// memory, two do not (bf16 from L2: 64 against 117 GB/s).
inline constexpr int kPanelVectors = static_cast<int>(kPanel) / kLanes;
inline constexpr int kPanelsAtOnce = kPanelVectors >= 8 ? 1 : 8 / kPanelVectors;
// Steps along k that each panel is fetched ahead.
inline constexpr int64_t kRowAhead = 16;

template <int kP>
struct PanelSums {
  Vectors<kPanelVectors> head;
  PanelSums<kP - 1> tail;
};
template <>
struct PanelSums<0> {};

template <int kP>
HWY_INLINE void LoadSums(const float* HWY_RESTRICT base, PanelSums<kP>& sums) {
  if constexpr (kP > 0) {
    if (base != nullptr) {
      Load(base, sums.head);
    } else {
      Clear(sums.head);
    }
    LoadSums(base == nullptr ? nullptr : base + kPanel, sums.tail);
  }
}

template <int kP>
HWY_INLINE void StoreSums(const PanelSums<kP>& sums, float* HWY_RESTRICT c) {
  if constexpr (kP > 0) {
    Store(sums.head, c);
    StoreSums(sums.tail, c + kPanel);
  }
}

// `fetch`: how far on in memory what will be read in kRowAhead steps lies.
template <int kP, typename B>
HWY_INLINE void MulAddPanels(TileVec a, const B* HWY_RESTRICT b, int64_t panel, int64_t fetch,
                             PanelSums<kP>& sums) {
  if constexpr (kP > 0) {
    Vectors<kPanelVectors> row;
    Load(b, row);
    hwy::Prefetch(b + fetch);
    if constexpr (sizeof(B) == sizeof(float)) hwy::Prefetch(b + fetch + kPanel / 2);
    MulAddRow(a, row, sums.head);
    MulAddPanels(a, b + panel, panel, fetch, sums.tail);
  }
}

// Columns of kP whole panels. At the end of a panel comes the same place of the panel after these.
template <int kP, typename B>
HWY_INLINE void RowOfPanels(const RowArgs& p, const B* HWY_RESTRICT b, float* HWY_RESTRICT c,
                            const float* HWY_RESTRICT base) {
  PanelSums<kP> sums;
  LoadSums(base, sums);
  const int64_t panel = p.k * kPanel, ahead = kRowAhead * kPanel;
  const int64_t near = std::max<int64_t>(0, p.k - kRowAhead);
  int64_t k = 0;
#pragma GCC unroll 2
  for (; k < near; ++k) {
    MulAddPanels(hn::Set(TileTag(), p.a[k]), b + k * kPanel, panel, ahead, sums);
  }
#pragma GCC unroll 2
  for (; k < p.k; ++k) {
    MulAddPanels(hn::Set(TileTag(), p.a[k]), b + k * kPanel, panel, ahead + (kP - 1) * panel, sums);
  }
  StoreSums(sums, c);
}

template <typename B>
void Row(const RowArgs& p) {
  const auto* b = static_cast<const B*>(p.b);
  int64_t j = 0;
  for (; j + kPanelsAtOnce * kPanel <= p.columns; j += kPanelsAtOnce * kPanel) {
    RowOfPanels<kPanelsAtOnce>(p, b + j * p.k, p.c + j, p.base == nullptr ? nullptr : p.base + j);
  }
  for (; j < p.columns; j += kPanel) {
    const int64_t left = std::min(kPanel, p.columns - j);
    float whole[kPanel] = {};
    if (p.base != nullptr) std::copy_n(p.base + j, left, whole);
    RowOfPanels<1>(p, b + j * p.k, whole, whole);
    std::copy_n(whole, left, p.c + j);
  }
}

}  // namespace graft::cpu::HWY_NAMESPACE::gemm
HWY_AFTER_NAMESPACE();

#endif  // toggle
