// Cross entropy of a linear layer: a chunk of logits at a time, rows by classes, made by the matrix
// product, turned into row statistics (forward) or into their own gradient (backward) where they
// lie, and gone. Products start from what the chunk before left, so their sums are the chains of
// the product over all classes at once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head_loss.cc"
#include "kernels/head_loss.h"

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/row-inl.h"
#include "kernels/loss.h"

#ifndef GRAFT_KERNELS_CPU_HEAD_LOSS_ONCE
#define GRAFT_KERNELS_CPU_HEAD_LOSS_ONCE
namespace graft::cpu {
// What is known of a row of logits after some of its chunks.
struct HeadRow {
  double sum = 0;  // of exp(logit - top)
  double all = 0;  // sum of the logits
  float top = -std::numeric_limits<float>::infinity();
  float target = 0;  // the logit of the row's class
};
// What the gradient of a row of logits is made of.
struct HeadGradient {
  float top, log_sum;
  float g;     // of the row's loss
  float even;  // what label smoothing wants of each class
};
}  // namespace graft::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// y := cap tanh(y / cap) where there is a cap; and the statistics of the row go on.
void AddLogits(float* y, size_t n, float cap, HeadRow& row) {
  const hn::ScalableTag<float> d;
  if (cap > 0) {
    EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
      const auto t = TanhV(d, hn::Mul(LoadMasked(d, mask, y + i), hn::Set(d, 1 / cap)));
      StoreMasked(hn::Mul(hn::Set(d, cap), t), mask, d, y + i);
    });
  }
  const float top = std::max(row.top, ReduceMax(d, y, n));
  if (top == -std::numeric_limits<float>::infinity()) return;  // no class is possible yet
  // Two sums each: of a thousand terms, every lane adds thirty.
  auto s0 = hn::Zero(d), s1 = s0, a0 = s0, a1 = s0;
  const auto add = [&](size_t i, auto mask, auto& s, auto& a) HWY_ATTR {
    const auto z = LoadMasked(d, mask, y + i);
    s = hn::Add(s, hn::IfThenElseZero(mask, ExpNonPositive(d, hn::Sub(z, hn::Set(d, top)))));
    a = hn::Add(a, z);
  };
  const size_t lanes = hn::Lanes(d);
  const auto whole = hn::FirstN(d, lanes);
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    add(i, whole, s0, a0);
    add(i + lanes, whole, s1, a1);
  }
  for (; i < n; i += lanes) add(i, hn::FirstN(d, std::min(lanes, n - i)), s0, a0);
  const auto sum = [&](auto x, auto z) HWY_ATTR {
    return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(x, z))));
  };
  row.sum = row.sum * std::exp(static_cast<double>(row.top - top)) + sum(s0, s1);
  row.all += sum(a0, a1);
  row.top = top;
}

// y := g (p - even) and through the cap, the gradient of every logit but the target's.
void LogitGradient(float* y, size_t n, float cap, const HeadGradient& row) {
  const hn::ScalableTag<float> d;
  const auto top = hn::Set(d, row.top), log_sum = hn::Set(d, row.log_sum), g = hn::Set(d, row.g),
             even = hn::Set(d, row.even);
  const auto gradient = [&](auto z) HWY_ATTR {
    const auto p = ExpNonPositive(d, hn::Sub(hn::Sub(z, top), log_sum));
    return hn::Mul(g, hn::Sub(p, even));
  };
  if (cap > 0) {
    EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
      const auto t = TanhV(d, hn::Mul(LoadMasked(d, mask, y + i), hn::Set(d, 1 / cap)));
      const auto slope = hn::NegMulAdd(t, t, hn::Set(d, 1.0f));
      StoreMasked(hn::Mul(gradient(hn::Mul(hn::Set(d, cap), t)), slope), mask, d, y + i);
    });
  } else {
    EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
      StoreMasked(gradient(LoadMasked(d, mask, y + i)), mask, d, y + i);
    });
  }
}

void AddRow(const float* x, size_t n, float* sum) {
  const hn::ScalableTag<float> d;
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    StoreMasked(hn::Add(LoadMasked(d, mask, sum + i), LoadMasked(d, mask, x + i)), mask, d,
                sum + i);
  });
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(AddLogits);
HWY_EXPORT(LogitGradient);
HWY_EXPORT(AddRow);

namespace {

using Range = HeadChunks::Range;

size_t Lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// One call; operands begin at input `first`.
struct Head {
  const KernelCall& c;
  const HeadLossAttrs& a;
  int64_t n, features, classes;
  const float *x, *w, *bias;
  const View& target;
  HeadChunks cut;

  Head(const KernelCall& call, size_t first, size_t bias_at)
      : c(call),
        a(call.attr<HeadLossAttrs>()),
        n(call.in(first).shape[0]),
        features(call.in(first).shape[1]),
        classes(call.in(first + 1).shape[0]),
        x(static_cast<const float*>(call.in(first).data)),
        w(static_cast<const float*>(call.in(first + 1).data)),
        bias(call.has(bias_at) ? static_cast<const float*>(call.in(bias_at).data) : nullptr),
        target(call.in(first + 2)),
        cut(n, classes) {}

  int64_t label(int64_t i) const { return LoadInt(target, i); }
  bool kept(int64_t i) const { return loss::Kept(label(i), classes, a); }
  int64_t kept_rows() const {
    int64_t kept_rows = 0;
    for (int64_t i = 0; i < n; ++i) kept_rows += kept(i);
    return kept_rows;
  }
  float cap() const { return static_cast<float>(a.softcap); }

  // ---- scratch memory: the chunk of logits, the statistics of its rows, the products'.
  size_t chunk_bytes() const {
    return Lines(static_cast<size_t>(cut.most_rows() * cut.most_classes()) * sizeof(float));
  }
  size_t row_bytes() const { return Lines(static_cast<size_t>(cut.most_rows()) * sizeof(HeadRow)); }
  float* logits() const { return static_cast<float*>(c.workspace); }
  HeadRow* rows() const {
    return reinterpret_cast<HeadRow*>(static_cast<char*>(c.workspace) + chunk_bytes());
  }
  void multiply(const GemmArgs& args) const {
    const size_t before = chunk_bytes() + row_bytes();
    Gemm(args, static_cast<char*>(c.workspace) + before, c.workspace_bytes - before);
  }
  // Groups and chunks come in two sizes each.
  template <typename F>
  size_t most(F bytes_of) const {
    size_t bytes = 0;
    for (int64_t j = 0; j < cut.chunks && cut.groups > 0; ++j) {
      for (const int64_t i : {int64_t{0}, cut.groups - 1})
        bytes = std::max(bytes, bytes_of(cut.group(i).size(), cut.chunk(j).size()));
    }
    return bytes;
  }

  // ---- the three products of a chunk
  void make_logits(Range i, Range k) const {
    GemmArgs g{.m = i.size(), .n = k.size(), .k = features};
    g.a = GemmOperand::rows(x + i.begin * features, features);
    g.b = GemmOperand::cols(w + k.begin * features, features);
    g.c = logits();
    g.ldc = k.size();
    g.alpha = static_cast<float>(a.scale);
    if (bias != nullptr) g.epilogue.bias = bias + k.begin;
    multiply(g);
  }
  void add_dx(Range i, Range k, float* dx) const {
    GemmArgs g{.m = i.size(), .n = features, .k = k.size()};
    g.a = GemmOperand::rows(logits(), k.size());
    g.b = GemmOperand::rows(w + k.begin * features, features);
    g.c = dx + i.begin * features;
    g.ldc = features;
    g.base = k.begin > 0 ? g.c : nullptr;
    g.alpha = static_cast<float>(a.scale);
    multiply(g);
  }
  void add_dw(Range i, Range k, float* dw) const {
    GemmArgs g{.m = k.size(), .n = features, .k = i.size()};
    g.a = GemmOperand::cols(logits(), k.size());
    g.b = GemmOperand::rows(x + i.begin * features, features);
    g.c = dw + k.begin * features;
    g.ldc = features;
    g.base = i.begin > 0 ? g.c : nullptr;
    g.alpha = static_cast<float>(a.scale);
    multiply(g);
  }
};

// Rows of a chunk that one thread takes at least.
int64_t Grain(Range k) { return 1 + 16 * 1024 / (k.size() + 1); }

size_t LinearCrossEntropyWorkspace(const KernelCall& c) {
  const Head h(c, 0, 3);
  return h.chunk_bytes() + h.row_bytes() + h.most([&](int64_t rows, int64_t columns) {
    return GemmWorkspaceBytes(rows, columns, h.features, MatrixLayout::rows, MatrixLayout::cols,
                              num_threads());
  });
}

void LinearCrossEntropy(const KernelCall& c) {  // x, w, target, bias
  const Head h(c, 0, 3);
  const auto add_logits = GRAFT_DISPATCH(AddLogits);
  float* statistics = c.out(1).as<float>();
  double total = 0;
  for (int64_t group = 0; group < h.cut.groups; ++group) {
    const Range i = h.cut.group(group);
    std::fill_n(h.rows(), i.size(), HeadRow{});
    for (int64_t chunk = 0; chunk < h.cut.chunks; ++chunk) {
      const Range k = h.cut.chunk(chunk);
      h.make_logits(i, k);
      parallel_for(i.size(), Grain(k), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          float* y = h.logits() + r * k.size();
          HeadRow& row = h.rows()[r];
          add_logits(y, static_cast<size_t>(k.size()), h.cap(), row);
          const int64_t t = h.label(i.begin + r);
          if (t >= k.begin && t < k.end) row.target = y[t - k.begin];
        }
      });
    }
    for (int64_t r = 0; r < i.size(); ++r) {
      const HeadRow& row = h.rows()[r];
      const double log_sum = std::log(row.sum);
      statistics[2 * (i.begin + r)] = row.top;
      statistics[2 * (i.begin + r) + 1] = static_cast<float>(log_sum);
      const double loss = h.kept(i.begin + r)
                              ? HeadRowLoss(h.a, static_cast<double>(row.top), log_sum,
                                            static_cast<double>(row.target),
                                            row.all / static_cast<double>(h.classes))
                              : 0;
      if (h.a.reduction == "none") c.out().as<float>()[i.begin + r] = static_cast<float>(loss);
      total += loss;
    }
  }
  if (h.a.reduction == "none") return;
  if (h.a.reduction == "mean") total /= static_cast<double>(h.kept_rows());
  *c.out().as<float>() = static_cast<float>(total);
}

size_t LinearCrossEntropyBackwardWorkspace(const KernelCall& c) {
  const Head h(c, 1, 5);
  const int threads = num_threads();
  const auto rows = MatrixLayout::rows, cols = MatrixLayout::cols;
  return h.chunk_bytes() + h.row_bytes() + h.most([&](int64_t n, int64_t columns) {
    size_t bytes = GemmWorkspaceBytes(n, columns, h.features, rows, cols, threads);
    if (h.a.need_dx)
      bytes = std::max(bytes, GemmWorkspaceBytes(n, h.features, columns, rows, rows, threads));
    if (h.a.need_dw)
      bytes = std::max(bytes, GemmWorkspaceBytes(columns, h.features, n, cols, rows, threads));
    return bytes;
  });
}

void LinearCrossEntropyBackward(const KernelCall& c) {  // dout, x, w, target, statistics, bias
  const Head h(c, 1, 5);
  const auto logit_gradient = GRAFT_DISPATCH(LogitGradient);
  const auto add_row = GRAFT_DISPATCH(AddRow);
  const float *dout = c.in(0).as<float>(), *statistics = c.in(4).as<float>();
  const bool none = h.a.reduction == "none";
  const double share = h.a.reduction == "mean" ? 1 / static_cast<double>(h.kept_rows()) : 1;
  const double even = h.a.label_smoothing / static_cast<double>(h.classes);
  for (const View& v : c.outputs) std::fill_n(v.as<float>(), v.elements(), 0.0f);
  for (int64_t group = 0; group < h.cut.groups; ++group) {
    const Range i = h.cut.group(group);
    for (int64_t chunk = 0; chunk < h.cut.chunks; ++chunk) {
      const Range k = h.cut.chunk(chunk);
      h.make_logits(i, k);
      parallel_for(i.size(), Grain(k), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t row = i.begin + r, t = h.label(row);
          float* y = h.logits() + r * k.size();
          if (!h.kept(row)) {
            std::fill_n(y, k.size(), 0.0f);
            continue;
          }
          const double g = static_cast<double>(dout[none ? row : 0]) * share;
          const double top = static_cast<double>(statistics[2 * row]),
                       log_sum = static_cast<double>(statistics[2 * row + 1]);
          const bool here = t >= k.begin && t < k.end;
          const double at = here ? static_cast<double>(y[t - k.begin]) : 0;
          logit_gradient(y, static_cast<size_t>(k.size()), h.cap(),
                         {statistics[2 * row], statistics[2 * row + 1], static_cast<float>(g),
                          static_cast<float>(even)});
          if (!here) continue;
          const double tanh = h.a.softcap > 0 ? std::tanh(at / h.a.softcap) : 0;
          const double z = h.a.softcap > 0 ? h.a.softcap * tanh : at;
          y[t - k.begin] = static_cast<float>(
              g * (std::exp(z - top - log_sum) - even - (1 - h.a.label_smoothing)) *
              (1 - tanh * tanh));
        }
      });
      if (h.a.need_dbias) {
        parallel_for(k.size(), 64, [&](int64_t begin, int64_t end) {
          for (int64_t r = 0; r < i.size(); ++r)
            add_row(h.logits() + r * k.size() + begin, static_cast<size_t>(end - begin),
                    c.out(2).as<float>() + k.begin + begin);
        });
      }
      if (h.a.need_dx) h.add_dx(i, k, c.out(0).as<float>());
      if (h.a.need_dw) h.add_dw(i, k, c.out(1).as<float>());
    }
  }
}

constexpr KernelEntry kKernels[] = {
    {"linear_cross_entropy", LinearCrossEntropy, LinearCrossEntropyWorkspace},
    {"linear_cross_entropy_backward", LinearCrossEntropyBackward,
     LinearCrossEntropyBackwardWorkspace}};

}  // namespace

Family head_loss_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
