// Attention on the CPU: plain loops over heads, blocks of queries and the keys that they see.
// Vectors live in attention_kernels.cc. One (batch, head) at a time on one thread: K and V are
// packed transposed into scratch, a block of queries has its scores in L1; backward recomputes the
// probabilities.
#include "kernels/attention.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "core/parallel.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/move.h"
#include "kernels/random.h"
#include "kernels/rope.h"

namespace graft::cpu {
namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();
constexpr int64_t kQueries = 64;  // per block: scores of 64 keys are 16 KB, of 512 keys 128 KB
// So few queries read the rows of K as they lie: transposing them first would cost more.
constexpr int64_t kFewQueries = 3;

// Keys [begin, end); not all of them need be visible.
struct Keys {
  int64_t begin, end;
  int64_t size() const { return std::max<int64_t>(0, end - begin); }
};

// What `keep` shows of a batch entry: nothing outside of the range, all inside unless there are
// holes. A cache of keys is mostly such an outside.
struct Shown {
  Keys range;
  bool holes;
};

template <typename T>
Shown ShownKeys(const T* keep, int64_t n) {
  int64_t begin = 0, end = n;
  while (begin < n && keep[begin] == 0) ++begin;
  while (end > begin && keep[end - 1] == 0) --end;
  return {{begin, end}, std::find(keep + begin, keep + end, T{0}) != keep + end};
}

// Never nothing, so that without keys every worker still has a slice.
size_t Scratch(int64_t floats) {
  return (std::max<size_t>(1, static_cast<size_t>(floats)) * sizeof(float) + 63) / 64 * 64;
}
// In front of the workers' scratch memory.
size_t ShownBytes(const AttentionShape& s) {
  return (static_cast<size_t>(s.batch) * sizeof(Shown) + 63) / 64 * 64;
}

// What both passes need to know of one call; operands begin at input `at`.
struct Call {
  const KernelCall& c;
  const AttentionAttrs& a;
  AttentionShape s;
  size_t at;
  BroadcastIndex bias;
  Shown* shown;                        // [B], in the workspace
  std::optional<RandomStream> random;  // of dropout
  const AttentionKernels& k = BestAttentionKernels();
  const GemmKernels& gemm = BestGemmKernels();

  Call(const KernelCall& call, size_t first)
      : c(call),
        a(call.attr<AttentionAttrs>()),
        s(call.in(first).shape, call.in(first + 1).shape, a.bthd),
        at(first),
        bias(call.has(first + 3) ? call.in(first + 3).shape : Shape{},
             {s.batch, s.heads, s.t, s.s}),
        shown(static_cast<Shown*>(call.workspace)) {
    if (a.dropout > 0) random = stream_of(c.in(at + 5), a.stream);
    for (int64_t b = 0; b < s.batch; ++b) {
      shown[b] = {{0, s.s}, false};
      if (!c.has(at + 4)) continue;
      move::ByWidth(c.in(at + 4).dtype, [&](auto width) {
        using T = decltype(width);
        shown[b] = ShownKeys(move::Data<T>(c.in(at + 4)) + b * s.s, s.s);
      });
    }
  }

  const float* q(int64_t b, int64_t h) const {
    return c.in(at).as<float>() + b * s.q_batch + h * s.q_head;
  }
  int64_t kv(int64_t b, int64_t kvh) const { return b * s.k_batch + kvh * s.k_head; }

  // The keys that queries [i0, i0 + rows) may see: scores of others are not computed.
  Keys keys(int64_t b, int64_t i0, int64_t rows) const {
    const Keys all = shown[b].range;
    return {std::max(all.begin, s.first_key(i0, a)),
            std::min(all.end, s.last_key(i0 + rows - 1, a))};
  }
  // What dropout multiplies by what it keeps.
  float kept() const { return static_cast<float>(1 / (1 - a.dropout)); }
  // out[d * keys + j] of row j of x.
  void transpose(const float* x, Keys keys, float* out) const {
    gemm.pack_along_k({x + keys.begin * s.k_row, s.k_row, keys.size(), keys.size(), s.dim, 1, out});
  }

  // Which keys `keep` shows among those of a batch entry, as floats in row[key]; null for all.
  const float* visible_keys(int64_t b, float* row) const {
    if (!shown[b].holes) return nullptr;
    for (int64_t j = shown[b].range.begin; j < shown[b].range.end; ++j)
      row[j] = LoadInt(c.in(at + 4), b * s.s + j) == 0 ? 0.0f : 1.0f;
    return row;
  }
};

// Queries of one head and the keys that they see; or, of heads that share their keys, one query
// each.
struct Block {
  int64_t b, h, i0, rows;
  Keys keys;
  bool across_heads = false;

  int64_t width() const { return keys.size(); }
  int64_t head(int64_t row) const { return across_heads ? h + row : h; }
  int64_t query(int64_t row) const { return across_heads ? i0 : i0 + row; }
  int64_t stride(const AttentionShape& s) const { return across_heads ? s.q_head : s.q_row; }
  // Where a row's scores stand among all.
  int64_t first_score(const AttentionShape& s, int64_t row) const {
    return s.score_at(b, head(row), query(row), keys.begin);
  }
};

// K of one head as the products want it: transposed, all keys of the head that any query sees; or,
// for few queries, as it is.
struct KeyRows {
  const float* k;           // [S, dim], stride k_row
  const float* transposed;  // [dim, all]; null: not
  Keys all;
};

// scores [rows, keys] of a block; hidden keys are -inf. With a softcap, `slope` receives the
// derivative of the cap, unless it is null.
void Scores(const Call& call, const Block& block, const KeyRows& k, const float* visible, float* p,
            float* slope) {
  const AttentionShape& s = call.s;
  const AttentionAttrs& a = call.a;
  const int64_t n = block.width();
  const bool capped = a.softcap > 0;
  const auto alpha = static_cast<float>(capped ? a.scale / a.softcap : a.scale);
  const float* q = call.q(block.b, block.h) + block.i0 * s.q_row;
  if (k.transposed == nullptr) {
    call.gemm.dot({q, k.k + block.keys.begin * s.k_row, block.stride(s), s.k_row, block.rows, n,
                   s.dim, p, n, nullptr, alpha});
  } else {
    call.k.multiply({block.rows, n, s.dim, q, block.stride(s), 1,
                     k.transposed + block.keys.begin - k.all.begin, k.all.size(), p, n, alpha,
                     false});
  }
  if (capped)
    call.k.cap_row(p, static_cast<size_t>(block.rows * n), static_cast<float>(a.softcap), slope);
  for (int64_t i = 0; i < block.rows; ++i) {
    float* row = p + i * n;
    if (call.c.has(call.at + 3)) {
      const float* bias = call.c.in(call.at + 3).as<float>();
      const int64_t first = block.first_score(s, i);
      for (int64_t j = 0; j < n; ++j) row[j] += bias[call.bias(first + j)];
    }
    const auto place = [&](int64_t key) {
      return std::clamp<int64_t>(key - block.keys.begin, 0, n);
    };
    const int64_t low = place(s.first_key(block.query(i), a)),
                  high = std::max(low, place(s.last_key(block.query(i), a)));
    std::fill(row, row + low, kHidden);
    std::fill(row + high, row + n, kHidden);
    if (visible != nullptr)
      call.k.hide_keys(row, visible + block.keys.begin, static_cast<size_t>(n));
  }
}

// Drops or marks what dropout takes of a block's scores. Rows with all keys lie behind each other
// among the numbers, too.
void EachDropped(const Call& call, const Block& block, void (*drop)(const DropRange&), float* p) {
  const int64_t n = block.width(), runs = n == call.s.s ? 1 : block.rows, rows = block.rows / runs;
  for (int64_t i = 0; i < runs && n > 0; ++i) {
    drop({*call.random, static_cast<uint64_t>(block.first_score(call.s, i)),
          static_cast<float>(call.a.dropout), p + i * n, static_cast<size_t>(rows * n)});
  }
}

// Splits n over the workers that have a slice of the workspace.
template <typename Body>
void WithScratch(const Call& call, int64_t n, size_t scratch, Body body) {
  const size_t before = ShownBytes(call.s);
  const auto served = static_cast<int64_t>((call.c.workspace_bytes - before) / scratch);
  const int64_t workers = std::min<int64_t>({num_threads(), n, served});
  parallel_for(workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      float* mine = reinterpret_cast<float*>(static_cast<char*>(call.c.workspace) + before +
                                             static_cast<size_t>(w) * scratch);
      for (int64_t i = n * w / workers; i < n * (w + 1) / workers; ++i) body(i, mine);
    }
  });
}

// Queries of a block: of one head, or where there is one alone, of all heads on its keys.
int64_t BlockRows(const AttentionShape& s) {
  return std::min(kQueries, s.t == 1 ? s.group() : s.t);
}
size_t ForwardScratch(const AttentionShape& s) {
  const int64_t transposed = s.t > kFewQueries ? s.s * s.dim : 0;
  return Scratch(transposed + BlockRows(s) * s.s + s.s);
}
size_t AttentionWorkspace(const KernelCall& c) {
  const AttentionShape s(c.in(0).shape, c.in(1).shape, c.attr<AttentionAttrs>().bthd);
  return ShownBytes(s) + static_cast<size_t>(num_threads()) * ForwardScratch(s);
}

void ForwardBlock(const Call& call, const Block& block, const KeyRows& k, const float* visible,
                  float* p) {
  const AttentionShape& s = call.s;
  const int64_t n = block.width(), stride = block.stride(s);
  Scores(call, block, k, visible, p, nullptr);
  float* out =
      call.c.out(0).as<float>() + block.b * s.q_batch + block.h * s.q_head + block.i0 * s.q_row;
  const float* v =
      call.c.in(2).as<float>() + call.kv(block.b, block.h / s.group()) + block.keys.begin * s.k_row;
  float factor[kQueries];
  for (int64_t i = 0; i < block.rows; ++i)
    factor[i] = call.k.exp_row(p + i * n, static_cast<size_t>(n));
  if (call.random) {
    EachDropped(call, block, call.k.drop, p);
    for (int64_t i = 0; i < block.rows; ++i) factor[i] *= call.kept();
  }
  call.k.multiply({block.rows, s.dim, n, p, n, 1, v, s.k_row, out, stride, 1, false});
  for (int64_t i = 0; i < block.rows; ++i)
    call.k.scale_row(out + i * stride, static_cast<size_t>(s.dim), factor[i]);
}

void Attention(const KernelCall& c) {
  const Call call(c, 0);
  const AttentionShape& s = call.s;
  // Heads of one query go together, if that leaves no thread without work: K and V are read once.
  const bool together = s.t == 1 && s.batch * s.kv_heads >= num_threads();
  const int64_t heads = together ? s.group() : 1, per_batch = s.heads / heads;
  WithScratch(call, s.batch * per_batch, ForwardScratch(s), [&](int64_t unit, float* scratch) {
    const int64_t b = unit / per_batch, h0 = unit % per_batch * heads;
    float *visible_row = scratch, *p = visible_row + s.s, *kt = p + BlockRows(s) * s.s;
    KeyRows k{c.in(1).as<float>() + call.kv(b, h0 / s.group()), nullptr, call.keys(b, 0, s.t)};
    if (s.t > kFewQueries) {
      call.transpose(k.k, k.all, kt);
      k.transposed = kt;
    }
    const float* visible = call.visible_keys(b, visible_row);
    if (together) {
      for (int64_t h = h0; h < h0 + heads; h += kQueries) {
        ForwardBlock(call, {b, h, 0, std::min(kQueries, h0 + heads - h), k.all, true}, k, visible,
                     p);
      }
      return;
    }
    for (int64_t i0 = 0; i0 < s.t; i0 += kQueries) {
      const int64_t rows = std::min(kQueries, s.t - i0);
      ForwardBlock(call, {b, h0, i0, rows, call.keys(b, i0, rows)}, k, visible, p);
    }
  });
}

size_t BackwardScratch(const AttentionShape& s, const AttentionAttrs& a) {
  const int64_t blocks = a.softcap > 0 ? 3 : 2;
  return Scratch(2 * s.s * s.dim + blocks * std::min(s.t, kQueries) * s.s + s.s);
}
size_t AttentionBackwardWorkspace(const KernelCall& c) {
  const auto& a = c.attr<AttentionAttrs>();
  const AttentionShape s(c.in(1).shape, c.in(2).shape, a.bthd);
  return ShownBytes(s) + static_cast<size_t>(num_threads()) * BackwardScratch(s, a);
}

// dS of one block of queries against one head into the bias's own shape.
void AddBiasGradient(const Call& call, const Block& block, const float* ds) {
  float* dbias = call.c.out(3).as<float>();
  const AttentionShape& s = call.s;
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t first = block.first_score(s, i);
    for (int64_t j = 0; j < block.width(); ++j)
      dbias[call.bias(first + j)] += ds[i * block.width() + j];
  }
}

// Scores to the probabilities that V is multiplied by, and dp, the gradient of those, to that of
// the scores.
void ScoreGradients(const Call& call, const Block& block, float* p, float* dp) {
  const auto n = static_cast<size_t>(block.width());
  float factor[kQueries];
  for (int64_t i = 0; i < block.rows; ++i) {
    float* row = p + i * block.width();
    factor[i] = call.k.exp_row(row, n);
    if (!call.random) call.k.backward_row(row, dp + i * block.width(), n, factor[i]);
  }
  if (!call.random) return;
  EachDropped(call, block, call.k.mark_dropped, p);
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t row = i * block.width();
    call.k.backward_marked_row(p + row, dp + row, n, factor[i], call.kept());
  }
}

// One key head of one batch entry, with all query heads that read it.
void BackwardOfHead(const Call& call, int64_t b, int64_t kvh, float* scratch) {
  const KernelCall& c = call.c;  // dout, q, k, v, bias, keep, rng
  const AttentionShape& s = call.s;
  const AttentionAttrs& a = call.a;
  const auto scale = static_cast<float>(a.scale);
  const int64_t kv = call.kv(b, kvh), room = std::min(s.t, kQueries) * s.s;
  float *kt = scratch, *vt = kt + s.s * s.dim, *p = vt + s.s * s.dim, *dp = p + room,
        *visible_row = dp + room, *slope = a.softcap > 0 ? visible_row + s.s : nullptr;
  const float *k = c.in(2).as<float>() + kv, *v = c.in(3).as<float>() + kv;
  const Keys all = call.keys(b, 0, s.t);
  call.transpose(k, all, kt);
  call.transpose(v, all, vt);
  const float* visible = call.visible_keys(b, visible_row);
  for (int64_t j = 0; j < s.s; ++j) {
    if (a.need_dk) std::fill_n(c.out(1).as<float>() + kv + j * s.k_row, s.dim, 0.0f);
    if (a.need_dv) std::fill_n(c.out(2).as<float>() + kv + j * s.k_row, s.dim, 0.0f);
  }
  for (int64_t h = kvh * s.group(); h < (kvh + 1) * s.group(); ++h) {
    for (int64_t i0 = 0; i0 < s.t; i0 += kQueries) {
      const int64_t rows = std::min(kQueries, s.t - i0),
                    at = b * s.q_batch + h * s.q_head + i0 * s.q_row;
      const Block block{b, h, i0, rows, call.keys(b, i0, rows)};
      const int64_t n = block.width(), first = kv + block.keys.begin * s.k_row;
      const float* dout = c.in(0).as<float>() + at;
      Scores(call, block, {k, kt, all}, visible, p, slope);
      call.k.multiply({rows, n, s.dim, dout, s.q_row, 1, vt + block.keys.begin - all.begin,
                       all.size(), dp, n, 1, false});
      ScoreGradients(call, block, p, dp);
      if (a.need_dbias) AddBiasGradient(call, block, dp);
      if (slope != nullptr) call.k.multiply_row(dp, slope, static_cast<size_t>(rows * n));
      if (a.need_dq) {
        call.k.multiply({rows, s.dim, n, dp, n, 1, c.in(2).as<float>() + first, s.k_row,
                         c.out(0).as<float>() + at, s.q_row, scale, false});
      }
      if (a.need_dk) {
        call.k.multiply({n, s.dim, rows, dp, 1, n, call.q(b, h) + i0 * s.q_row, s.q_row,
                         c.out(1).as<float>() + first, s.k_row, scale, true});
      }
      if (a.need_dv) {
        call.k.multiply({n, s.dim, rows, p, 1, n, dout, s.q_row, c.out(2).as<float>() + first,
                         s.k_row, 1, true});
      }
    }
  }
}

void AttentionBackward(const KernelCall& c) {
  const Call call(c, 1);
  const AttentionShape& s = call.s;
  const auto one = [&](int64_t unit, float* scratch) {
    BackwardOfHead(call, unit / s.kv_heads, unit % s.kv_heads, scratch);
  };
  const int64_t units = s.batch * s.kv_heads;
  if (call.a.need_dbias) {  // heads and batch entries may share a bias entry: one thread, one order
    std::fill_n(c.out(3).as<float>(), c.out(3).elements(), 0.0f);
    float* scratch = reinterpret_cast<float*>(static_cast<char*>(c.workspace) + ShownBytes(s));
    for (int64_t unit = 0; unit < units; ++unit) one(unit, scratch);
  } else {
    WithScratch(call, units, BackwardScratch(s, call.a), one);
  }
}

constexpr KernelEntry kKernels[] = {
    {"attention", Attention, AttentionWorkspace},
    {"attention_backward", AttentionBackward, AttentionBackwardWorkspace},
    {"rope", Rope<float>},
    {"t5_bucket", T5Bucket},
    {"deberta_bucket", DebertaBucket}};

}  // namespace

Family attention_kernels() { return kKernels; }

}  // namespace graft::cpu
