// The kernels of attention for each instruction set, and the choice among them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cc"
#include "kernels/cpu/attention_kernels.h"

#include <algorithm>
#include <limits>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/random-inl.h"
#include "kernels/cpu/row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
// A namespace of its own: per-target names of all kernel files meet in the parent.
namespace attention {
namespace hn = hwy::HWY_NAMESPACE;

// Rows of a tile: with its two vectors of B and one broadcast element of A they fill the registers.
constexpr int kTileRows = hn::MaxLanes(hn::ScalableTag<float>()) >= 16 ? 12 : 6;

// kRows x 2 vectors of C in registers; the sum over k is one chain, so tiles of any height give the
// same bits. kFull: all columns exist.
template <int kRows, bool kFull>
HWY_INLINE void TileColumns(const SmallProduct& p, int64_t i, int64_t j) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto left = static_cast<size_t>(p.n - j);
  const auto m0 = hn::FirstN(d, left),
             m1 = hn::FirstN(d, left > hn::Lanes(d) ? left - hn::Lanes(d) : 0);
  const auto load = [&](auto mask, const float* from)
                        HWY_ATTR { return kFull ? hn::LoadU(d, from) : LoadMasked(d, mask, from); };
  using V = hn::Vec<decltype(d)>;
  V s[kRows][2];
  for (int r = 0; r < kRows; ++r) s[r][0] = s[r][1] = hn::Zero(d);
  // One pointer for three rows: the others are within reach of an address with a scaled index.
  constexpr int kPointers = (kRows + 2) / 3;
  const int64_t ai = p.ai, ak = p.ak, ldb = p.ldb, depth = p.k;
  const float* a[kPointers];
  for (int g = 0; g < kPointers; ++g) a[g] = p.a + (i + 3 * g) * ai;
  const float* b = p.b + j;
  for (int64_t k = 0; k < depth; ++k, b += ldb) {
    const V b0 = load(m0, b), b1 = load(m1, b + lanes);
    for (int r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, a[r / 3][r % 3 * ai]);
      s[r][0] = hn::MulAdd(x, b0, s[r][0]);
      s[r][1] = hn::MulAdd(x, b1, s[r][1]);
    }
    for (int g = 0; g < kPointers; ++g) a[g] += ak;
  }
  const V alpha = hn::Set(d, p.alpha);
  for (int r = 0; r < kRows; ++r) {
    float* c = p.c + (i + r) * p.ldc + j;
    V y0 = hn::Mul(s[r][0], alpha), y1 = hn::Mul(s[r][1], alpha);
    if (p.accumulate) {
      y0 = hn::Add(y0, load(m0, c));
      y1 = hn::Add(y1, load(m1, c + lanes));
    }
    if (kFull) {
      hn::StoreU(y0, d, c);
      hn::StoreU(y1, d, c + lanes);
    } else {
      StoreMasked(y0, m0, d, c);
      if (p.n - j > lanes) StoreMasked(y1, m1, d, c + lanes);
    }
  }
}

// The last rows, fewer than a whole tile.
template <int kRows>
HWY_INLINE void LastRows(const SmallProduct& p, int64_t i, int64_t j, bool full) {
  if constexpr (kRows > 0) {
    if (p.m - i != kRows) return LastRows<kRows - 1>(p, i, j, full);
    full ? TileColumns<kRows, true>(p, i, j) : TileColumns<kRows, false>(p, i, j);
  }
}

void Multiply(const SmallProduct& p) {
  const hn::ScalableTag<float> d;
  const auto step = 2 * static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < p.n; j += step) {
    const bool full = p.n - j >= step;
    int64_t i = 0;
    for (; i + kTileRows <= p.m; i += kTileRows) {
      full ? TileColumns<kTileRows, true>(p, i, j) : TileColumns<kTileRows, false>(p, i, j);
    }
    LastRows<kTileRows - 1>(p, i, j, full);
  }
}

void CapRow(float* x, size_t n, float cap, float* slope) {
  const hn::ScalableTag<float> d;
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto t = TanhV(d, LoadMasked(d, mask, x + i));
    StoreMasked(hn::Mul(hn::Set(d, cap), t), mask, d, x + i);
    if (slope != nullptr) StoreMasked(hn::NegMulAdd(t, t, hn::Set(d, 1.0f)), mask, d, slope + i);
  });
}

void HideKeys(float* x, const float* visible, size_t n) {
  const hn::ScalableTag<float> d;
  const auto hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto seen = hn::Ne(LoadMasked(d, mask, visible + i), hn::Zero(d));
    StoreMasked(hn::IfThenElse(seen, LoadMasked(d, mask, x + i), hidden), mask, d, x + i);
  });
}

float ExpRow(float* x, size_t n) {
  const hn::ScalableTag<float> d;
  const float top = ReduceMax(d, x, n);
  const float shift = top == -std::numeric_limits<float>::infinity() ? 0.0f : top;
  const float sum = ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto e = ExpNonPositive(d, hn::Sub(LoadMasked(d, mask, x + i), hn::Set(d, shift)));
    StoreMasked(e, mask, d, x + i);
    return e;
  });
  return sum > 0 ? 1 / sum : 0;
}

void BackwardRow(float* p, float* dp, size_t n, float factor) {
  const hn::ScalableTag<float> d;
  const float delta = ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto e = hn::Mul(LoadMasked(d, mask, p + i), hn::Set(d, factor));
    StoreMasked(e, mask, d, p + i);
    return hn::Mul(e, LoadMasked(d, mask, dp + i));
  });
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto ds = hn::Mul(LoadMasked(d, mask, p + i),
                            hn::Sub(LoadMasked(d, mask, dp + i), hn::Set(d, delta)));
    StoreMasked(ds, mask, d, dp + i);
  });
}

// f(i, mask, dropped) for the vectors of a range, which end where groups of drawn numbers do.
template <class F>
HWY_INLINE void EachDropped(const DropRange& r, F f) {
  const hn::CappedTag<float, kDrawGroup> d;
  const auto p = hn::Set(d, r.p);
  HWY_ALIGN uint32_t bits[2 * kDrawGroup] = {};  // a vector that begins in the first half
  for (size_t done = 0; done < r.n;) {
    const uint64_t at = r.first + done;
    const auto skipped = static_cast<size_t>(at % kDrawGroup);
    const size_t count = std::min(kDrawGroup - skipped, r.n - done);
    DrawBits(r.random, at / kDrawGroup, bits);
    EachVector(d, count, [&](size_t i, auto mask) HWY_ATTR {
      f(done + i, mask, hn::Lt(UniformOf(d, bits + skipped + i), p));
    });
    done += count;
  }
}

void Drop(const DropRange& r) {
  const hn::CappedTag<float, kDrawGroup> d;
  EachDropped(r, [&](size_t i, auto mask, auto dropped) HWY_ATTR {
    StoreMasked(hn::IfThenZeroElse(dropped, LoadMasked(d, mask, r.x + i)), mask, d, r.x + i);
  });
}

void MarkDropped(const DropRange& r) {
  const hn::CappedTag<float, kDrawGroup> d;
  EachDropped(r, [&](size_t i, auto mask, auto dropped) HWY_ATTR {
    const auto x = LoadMasked(d, mask, r.x + i);
    StoreMasked(hn::IfThenElse(dropped, hn::Neg(x), x), mask, d, r.x + i);
  });
}

void BackwardMarkedRow(float* p, float* dp, size_t n, float factor, float keep) {
  const hn::ScalableTag<float> d;
  const auto zero = hn::Zero(d), kept = hn::Set(d, keep);
  const float delta = ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto e = hn::Mul(LoadMasked(d, mask, p + i), hn::Set(d, factor));
    const auto read = hn::Mul(LoadMasked(d, mask, dp + i), kept);
    const auto g = hn::IfNegativeThenElse(e, zero, read);
    StoreMasked(e, mask, d, p + i);
    StoreMasked(g, mask, d, dp + i);
    return hn::Mul(hn::Abs(e), g);
  });
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto e = LoadMasked(d, mask, p + i);
    const auto ds = hn::Mul(hn::Abs(e), hn::Sub(LoadMasked(d, mask, dp + i), hn::Set(d, delta)));
    StoreMasked(hn::IfNegativeThenElse(e, zero, hn::Mul(e, kept)), mask, d, p + i);
    StoreMasked(ds, mask, d, dp + i);
  });
}

void MultiplyRow(float* x, const float* y, size_t n) {
  const hn::ScalableTag<float> d;
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    StoreMasked(hn::Mul(LoadMasked(d, mask, x + i), LoadMasked(d, mask, y + i)), mask, d, x + i);
  });
}

void ScaleRow(float* x, size_t n, float factor) {
  const hn::ScalableTag<float> d;
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    StoreMasked(hn::Mul(LoadMasked(d, mask, x + i), hn::Set(d, factor)), mask, d, x + i);
  });
}

}  // namespace attention

const AttentionKernels* AttentionKernelsOfTarget() {
  using namespace attention;
  static constexpr AttentionKernels kTable = {.multiply = &Multiply,
                                              .cap_row = &CapRow,
                                              .hide_keys = &HideKeys,
                                              .exp_row = &ExpRow,
                                              .backward_row = &BackwardRow,
                                              .drop = &Drop,
                                              .mark_dropped = &MarkDropped,
                                              .backward_marked_row = &BackwardMarkedRow,
                                              .multiply_row = &MultiplyRow,
                                              .scale_row = &ScaleRow};
  return &kTable;
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(AttentionKernelsOfTarget);
const AttentionKernels& BestAttentionKernels() {
  return *HWY_DYNAMIC_DISPATCH(AttentionKernelsOfTarget)();
}
}  // namespace graft::cpu
#endif
