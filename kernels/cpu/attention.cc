// Attention with Highway. One (batch, head) at a time on one thread: K and V are packed transposed
// into scratch, a block of queries has its scores in L1; backward recomputes the probabilities.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "kernels/attention.h"

#include <cmath>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/row-inl.h"
#include "kernels/rope.h"

#ifndef GRAFT_KERNELS_CPU_ATTENTION_ONCE
#define GRAFT_KERNELS_CPU_ATTENTION_ONCE
namespace graft::cpu {
// C [m, n] = alpha A B (+ C): a(i, k) at a[i * ai + k * ak], b(k, j) at b[k * ldb + j].
struct SmallProduct {
  int64_t m, n, k;
  const float* a;
  int64_t ai, ak;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
  float alpha;
  bool accumulate;
};
}  // namespace graft::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
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

// x := cap tanh(x), and slope := 1 - tanh^2 where it is wanted.
void CapRow(float* x, size_t n, float cap, float* slope) {
  const hn::ScalableTag<float> d;
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto t = TanhV(d, LoadMasked(d, mask, x + i));
    StoreMasked(hn::Mul(hn::Set(d, cap), t), mask, d, x + i);
    if (slope != nullptr) StoreMasked(hn::NegMulAdd(t, t, hn::Set(d, 1.0f)), mask, d, slope + i);
  });
}

// Scores of keys that are not visible become -inf.
void HideKeys(float* x, const float* visible, size_t n) {
  const hn::ScalableTag<float> d;
  const auto hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto seen = hn::Ne(LoadMasked(d, mask, visible + i), hn::Zero(d));
    StoreMasked(hn::IfThenElse(seen, LoadMasked(d, mask, x + i), hidden), mask, d, x + i);
  });
}

// Scores to unnormalized probabilities; returns what normalizes them. A row without a visible key
// becomes zeros.
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

// p := factor p; ds := p (dp - sum p dp). The sum is taken over what is subtracted from, so a lone
// key gets exactly zero.
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

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(Multiply);
HWY_EXPORT(CapRow);
HWY_EXPORT(HideKeys);
HWY_EXPORT(ExpRow);
HWY_EXPORT(BackwardRow);
HWY_EXPORT(MultiplyRow);
HWY_EXPORT(ScaleRow);

namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();
constexpr int64_t kQueries = 64;  // per block: scores of 64 keys are 16 KB, of 512 keys 128 KB

struct Kernels {
  decltype(GRAFT_DISPATCH(Multiply)) multiply = GRAFT_DISPATCH(Multiply);
  decltype(GRAFT_DISPATCH(CapRow)) cap_row = GRAFT_DISPATCH(CapRow);
  decltype(GRAFT_DISPATCH(HideKeys)) hide_keys = GRAFT_DISPATCH(HideKeys);
  decltype(GRAFT_DISPATCH(ExpRow)) exp_row = GRAFT_DISPATCH(ExpRow);
  decltype(GRAFT_DISPATCH(BackwardRow)) backward_row = GRAFT_DISPATCH(BackwardRow);
  decltype(GRAFT_DISPATCH(MultiplyRow)) multiply_row = GRAFT_DISPATCH(MultiplyRow);
  decltype(GRAFT_DISPATCH(ScaleRow)) scale_row = GRAFT_DISPATCH(ScaleRow);
  const GemmKernels& gemm = BestGemmKernels();

  // out[d * s + j] = x[j * row + d]
  void transpose(const float* x, int64_t row, int64_t s, int64_t dim, float* out) const {
    gemm.pack_along_k({x, row, s, s, dim, 1, out});
  }
};

// What both passes need to know of one call; operands begin at input `at`.
struct Call {
  const KernelCall& c;
  const AttentionAttrs& a;
  AttentionShape s;
  size_t at;
  BroadcastIndex bias;
  Kernels k;

  Call(const KernelCall& call, size_t first)
      : c(call),
        a(call.attr<AttentionAttrs>()),
        s(call.in(first).shape, call.in(first + 1).shape, a.bthd),
        at(first),
        bias(call.has(first + 3) ? call.in(first + 3).shape : Shape{},
             {s.batch, s.heads, s.t, s.s}) {}

  const float* q(int64_t b, int64_t h) const {
    return c.in(at).as<float>() + b * s.q_batch + h * s.q_head;
  }
  int64_t kv(int64_t b, int64_t kvh) const { return b * s.k_batch + kvh * s.k_head; }

  // Which keys of a batch entry `keep` shows, as floats in `row`; null where it shows all.
  const float* visible_keys(int64_t b, float* row) const {
    if (!c.has(at + 4)) return nullptr;
    bool all = true;
    for (int64_t j = 0; j < s.s; ++j) {
      row[j] = LoadInt(c.in(at + 4), b * s.s + j) == 0 ? 0.0f : 1.0f;
      all = all && row[j] != 0;
    }
    return all ? nullptr : row;
  }

  // scores [rows, S] of queries from i0 on; hidden keys are -inf. With a softcap, `slope` [rows, S]
  // receives the derivative of the cap, unless it is null.
  void scores(int64_t b, int64_t h, int64_t i0, int64_t rows, const float* k_transposed,
              const float* visible, float* p, float* slope) const {
    const bool capped = a.softcap > 0;
    k.multiply({rows, s.s, s.dim, q(b, h) + i0 * s.q_row, s.q_row, 1, k_transposed, s.s, p, s.s,
                static_cast<float>(capped ? a.scale / a.softcap : a.scale), false});
    if (capped) k.cap_row(p, static_cast<size_t>(rows * s.s), static_cast<float>(a.softcap), slope);
    for (int64_t i = 0; i < rows; ++i) {
      float* row = p + i * s.s;
      if (c.has(at + 3)) {
        const int64_t first = ((b * s.heads + h) * s.t + i0 + i) * s.s;
        for (int64_t j = 0; j < s.s; ++j) row[j] += c.in(at + 3).as<float>()[bias(first + j)];
      }
      const int64_t low = s.first_key(i0 + i, a), high = std::max(low, s.last_key(i0 + i, a));
      std::fill(row, row + low, kHidden);
      std::fill(row + high, row + s.s, kHidden);
      if (visible != nullptr) k.hide_keys(row, visible, static_cast<size_t>(s.s));
    }
  }
};

// Never nothing, so that without keys every worker still has a slice.
size_t Scratch(int64_t entries) {
  return (std::max<size_t>(1, static_cast<size_t>(entries)) * sizeof(float) + 63) / 64 * 64;
}

size_t ForwardScratch(const AttentionShape& s) {
  return Scratch(s.s * s.dim + kQueries * s.s + s.s);
}
size_t AttentionWorkspace(const KernelCall& c) {
  return static_cast<size_t>(num_threads()) *
         ForwardScratch({c.in(0).shape, c.in(1).shape, c.attr<AttentionAttrs>().bthd});
}

// Splits n over the workers that have a slice of the workspace.
template <typename Body>
void WithScratch(const KernelCall& c, int64_t n, size_t scratch, Body body) {
  const auto served = static_cast<int64_t>(c.workspace_bytes / scratch);
  const int64_t workers = std::min<int64_t>({num_threads(), n, served});
  parallel_for(workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      float* mine = reinterpret_cast<float*>(static_cast<char*>(c.workspace) +
                                             static_cast<size_t>(w) * scratch);
      for (int64_t i = n * w / workers; i < n * (w + 1) / workers; ++i) body(i, mine);
    }
  });
}

void Attention(const KernelCall& c) {
  const Call call(c, 0);
  const AttentionShape& s = call.s;
  WithScratch(c, s.batch * s.heads, ForwardScratch(s), [&](int64_t unit, float* scratch) {
    const int64_t b = unit / s.heads, h = unit % s.heads, kv = call.kv(b, h / s.group());
    float *kt = scratch, *p = scratch + s.s * s.dim;
    call.k.transpose(c.in(1).as<float>() + kv, s.k_row, s.s, s.dim, kt);
    const float* visible = call.visible_keys(b, p + kQueries * s.s);
    for (int64_t i0 = 0; i0 < s.t; i0 += kQueries) {
      const int64_t rows = std::min(kQueries, s.t - i0);
      call.scores(b, h, i0, rows, kt, visible, p, nullptr);
      float* out = c.out(0).as<float>() + b * s.q_batch + h * s.q_head + i0 * s.q_row;
      float factor[kQueries];
      for (int64_t i = 0; i < rows; ++i)
        factor[i] = call.k.exp_row(p + i * s.s, static_cast<size_t>(s.s));
      call.k.multiply(
          {rows, s.dim, s.s, p, s.s, 1, c.in(2).as<float>() + kv, s.k_row, out, s.q_row, 1, false});
      for (int64_t i = 0; i < rows; ++i)
        call.k.scale_row(out + i * s.q_row, static_cast<size_t>(s.dim), factor[i]);
    }
  });
}

size_t BackwardScratch(const AttentionShape& s, const AttentionAttrs& a) {
  const int64_t blocks = a.softcap > 0 ? 3 : 2;
  return Scratch(2 * s.s * s.dim + blocks * kQueries * s.s + s.s);
}
size_t AttentionBackwardWorkspace(const KernelCall& c) {
  const auto& a = c.attr<AttentionAttrs>();
  return static_cast<size_t>(num_threads()) *
         BackwardScratch({c.in(1).shape, c.in(2).shape, a.bthd}, a);
}

// dS of one block of queries against one head into the bias's own shape.
void AddBiasGradient(const Call& call, int64_t b, int64_t h, int64_t i0, int64_t rows,
                     const float* ds) {
  float* dbias = call.c.out(3).as<float>();
  const AttentionShape& s = call.s;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t first = ((b * s.heads + h) * s.t + i0 + i) * s.s;
    for (int64_t j = 0; j < s.s; ++j) dbias[call.bias(first + j)] += ds[i * s.s + j];
  }
}

void AttentionBackward(const KernelCall& c) {  // dout, q, k, v, bias, keep
  const Call call(c, 1);
  const AttentionShape& s = call.s;
  const AttentionAttrs& a = call.a;
  const float scale = static_cast<float>(a.scale);
  if (a.need_dbias) std::fill_n(c.out(3).as<float>(), c.out(3).elements(), 0.0f);
  auto one =
      [&](int64_t unit,
          float* scratch) {  // one key head of one batch entry, with all query heads that read it
        const int64_t b = unit / s.kv_heads, kvh = unit % s.kv_heads, kv = call.kv(b, kvh);
        float *kt = scratch, *vt = kt + s.s * s.dim, *p = vt + s.s * s.dim,
              *dp = p + kQueries * s.s, *keys = dp + kQueries * s.s;
        float* slope = a.softcap > 0 ? keys + s.s : nullptr;
        const float *k = c.in(2).as<float>() + kv, *v = c.in(3).as<float>() + kv;
        call.k.transpose(k, s.k_row, s.s, s.dim, kt);
        call.k.transpose(v, s.k_row, s.s, s.dim, vt);
        const float* visible = call.visible_keys(b, keys);
        bool first = true;
        for (int64_t h = kvh * s.group(); h < (kvh + 1) * s.group(); ++h) {
          for (int64_t i0 = 0; i0 < s.t; i0 += kQueries, first = false) {
            const int64_t rows = std::min(kQueries, s.t - i0),
                          at = b * s.q_batch + h * s.q_head + i0 * s.q_row;
            const float* dout = c.in(0).as<float>() + at;
            call.scores(b, h, i0, rows, kt, visible, p, slope);
            call.k.multiply({rows, s.s, s.dim, dout, s.q_row, 1, vt, s.s, dp, s.s, 1, false});
            for (int64_t i = 0; i < rows; ++i) {
              const float factor = call.k.exp_row(p + i * s.s, static_cast<size_t>(s.s));
              call.k.backward_row(p + i * s.s, dp + i * s.s, static_cast<size_t>(s.s), factor);
            }
            if (a.need_dbias) AddBiasGradient(call, b, h, i0, rows, dp);
            if (slope != nullptr) call.k.multiply_row(dp, slope, static_cast<size_t>(rows * s.s));
            if (a.need_dq)
              call.k.multiply({rows, s.dim, s.s, dp, s.s, 1, k, s.k_row, c.out(0).as<float>() + at,
                               s.q_row, scale, false});
            if (a.need_dk) {
              call.k.multiply({s.s, s.dim, rows, dp, 1, s.s, call.q(b, h) + i0 * s.q_row, s.q_row,
                               c.out(1).as<float>() + kv, s.k_row, scale, !first});
            }
            if (a.need_dv)
              call.k.multiply({s.s, s.dim, rows, p, 1, s.s, dout, s.q_row,
                               c.out(2).as<float>() + kv, s.k_row, 1, !first});
          }
        }
        if (first) {  // no queries at all
          for (int64_t j = 0; j < s.s; ++j) {
            if (a.need_dk) std::fill_n(c.out(1).as<float>() + kv + j * s.k_row, s.dim, 0.0f);
            if (a.need_dv) std::fill_n(c.out(2).as<float>() + kv + j * s.k_row, s.dim, 0.0f);
          }
        }
      };
  if (a.need_dbias) {  // heads and batch entries may share a bias entry: one thread, one order
    for (int64_t unit = 0; unit < s.batch * s.kv_heads; ++unit)
      one(unit, static_cast<float*>(c.workspace));
  } else {
    WithScratch(c, s.batch * s.kv_heads, BackwardScratch(s, a), one);
  }
}

constexpr KernelEntry kKernels[] = {
    {"attention", Attention, AttentionWorkspace},
    {"attention_backward", AttentionBackward, AttentionBackwardWorkspace},
    {"rope", Rope<float>},
    {"t5_bucket", T5Bucket}};

}  // namespace

Family attention_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
