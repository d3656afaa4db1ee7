// Reductions with Highway. Every result is summed in an order fixed by the shape: lanes over a row,
// rows in turn.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cc"
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/part-inl.h"
#include "kernels/move.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sum of n floats (of squares if `square`).
float RowSum(const float* x, size_t n, bool square) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    s0 = square ? hn::MulAdd(a, a, s0) : hn::Add(a, s0);
    s1 = square ? hn::MulAdd(b, b, s1) : hn::Add(b, s1);
  }
  for (; i < n; i += lanes) {
    const auto a = LoadMasked(d, hn::FirstN(d, std::min(lanes, n - i)), x + i);
    s0 = square ? hn::MulAdd(a, a, s0) : hn::Add(a, s0);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
}

// y[0..n) += x[0..n)
void AddTo(const float* x, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < n; ++i) y[i] += x[i];
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(RowSum);
HWY_EXPORT(AddTo);

namespace {

// Adjacent axes are merged; then the shape alternates between kept and reduced stretches, walked
// recursively. Most calls are one of [kept, reduced] (rows) and [reduced, kept] (columns).
struct Stretches {
  int count = 0;
  std::array<int64_t, Shape::kMaxRank> size{};
  std::array<bool, Shape::kMaxRank> reduced{};

  explicit Stretches(const KernelCall& c) {
    const auto& axes = c.attr<ReduceAttrs>().axes;
    const Shape& x = c.in(0).shape;
    for (int i = 0; i < x.rank(); ++i) {
      const bool gone = std::ranges::binary_search(axes, i);
      if (count > 0 && reduced[static_cast<size_t>(count) - 1] == gone) {
        size[static_cast<size_t>(count) - 1] *= x[i];
      } else {
        size[static_cast<size_t>(count)] = x[i];
        reduced[static_cast<size_t>(count++)] = gone;
      }
    }
  }
};

// y += the sum over the reduced stretches from `level` on; returns how many elements of x and y
// were walked.
void SumInto(const Stretches& s, int level, const float* x, float* y) {
  const auto at = static_cast<size_t>(level);
  if (level == s.count) {
    *y += *x;
    return;
  }
  if (level + 1 == s.count) {
    if (s.reduced[at])
      *y += GRAFT_DISPATCH(RowSum)(x, static_cast<size_t>(s.size[at]), false);
    else
      GRAFT_DISPATCH(AddTo)(x, y, static_cast<size_t>(s.size[at]));
    return;
  }
  int64_t x_step = 1, y_step = 1;
  for (int i = level + 1; i < s.count; ++i) {
    x_step *= s.size[static_cast<size_t>(i)];
    if (!s.reduced[static_cast<size_t>(i)]) y_step *= s.size[static_cast<size_t>(i)];
  }
  for (int64_t i = 0; i < s.size[at]; ++i)
    SumInto(s, level + 1, x + i * x_step, s.reduced[at] ? y : y + i * y_step);
}

// Columns are owned by threads in blocks that stay in L1.
void SumColumns(int64_t rows, int64_t columns, const float* x, float* y) {
  const auto add = GRAFT_DISPATCH(AddTo);
  parallel_for(columns, std::max<int64_t>(64, 65536 / std::max<int64_t>(1, rows)),
               [&](int64_t begin, int64_t end) {
                 std::fill(y + begin, y + end, 0.0f);
                 for (int64_t r = 0; r < rows; ++r)
                   add(x + r * columns + begin, y + begin, static_cast<size_t>(end - begin));
               });
}

void Sum(const KernelCall& c) {
  const Stretches s(c);
  const float* x = c.in(0).as<float>();
  float* y = c.out().as<float>();
  if (s.count == 2 && s.reduced[0]) return SumColumns(s.size[0], s.size[1], x, y);
  std::fill_n(y, c.out().elements(), 0.0f);
  if (c.in(0).elements() == 0) return;
  if (s.count > 0 && !s.reduced[0]) {
    const int64_t x_step = c.in(0).elements() / s.size[0], y_step = c.out().elements() / s.size[0];
    parallel_for(s.size[0], std::max<int64_t>(1, 16384 / x_step), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) SumInto(s, 1, x + i * x_step, y + i * y_step);
    });
  } else {
    SumInto(s, 0, x, y);
  }
}

void Mean(const KernelCall& c) {
  Sum(c);
  const int64_t n = c.out().elements();
  const float factor =
      static_cast<float>(static_cast<double>(n) / static_cast<double>(c.in(0).elements()));
  for (int64_t i = 0; i < n; ++i) c.out().as<float>()[i] *= factor;
}

void Max(const KernelCall& c) {
  const move::Split3 s(c.in(0).shape, c.attr<ReduceAttrs>().axes[0]);
  const float* x = c.in(0).as<float>();
  parallel_for(s.outer * s.inner, std::max<int64_t>(1, 16384 / s.size),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const float* column = x + i / s.inner * s.size * s.inner + i % s.inner;
                   const int64_t best = move::ArgMax(column, s.size, s.inner);
                   c.out(0).as<float>()[i] = column[best * s.inner];
                   c.out(1).as<int64_t>()[i] = best;
                 }
               });
}

void Cumsum(const KernelCall& c) {
  const auto& a = c.attr<CumsumAttrs>();
  const move::Split3 s(c.in(0).shape, a.axis);
  parallel_for(s.outer * s.inner, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, s.size)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   double sum = 0;
                   for (int64_t k = 0; k < s.size; ++k) {
                     const int64_t at =
                         (i / s.inner * s.size + (a.reverse ? s.size - 1 - k : k)) * s.inner +
                         i % s.inner;
                     sum += static_cast<double>(c.in(0).as<float>()[at]);
                     c.out().as<float>()[at] = static_cast<float>(sum);
                   }
                 }
               });
}

// Chunks of fixed size, their sums added in double: the order does not depend on threads.
void L2Norm(const KernelCall& c) {
  constexpr int64_t kChunk = 4096;
  const auto row_sum = GRAFT_DISPATCH(RowSum);
  auto* partial = static_cast<double*>(c.workspace);
  double sum = 0;
  for (const View& x : c.inputs) {
    const int64_t n = x.elements(), chunks = (n + kChunk - 1) / kChunk;
    parallel_for(chunks, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        partial[i] = static_cast<double>(
            row_sum(x.as<float>() + i * kChunk,
                    static_cast<size_t>(std::min(kChunk, n - i * kChunk)), true));
      }
    });
    for (int64_t i = 0; i < chunks; ++i) sum += partial[i];
  }
  *c.out().as<float>() = static_cast<float>(std::sqrt(sum));
}
size_t L2NormWorkspace(const KernelCall& c) {
  int64_t most = 1;
  for (const View& x : c.inputs) most = std::max(most, x.elements() / 4096 + 1);
  return static_cast<size_t>(most) * sizeof(double);
}

constexpr KernelEntry kKernels[] = {{"sum", Sum},
                                    {"mean", Mean},
                                    {"max", Max},
                                    {"cumsum", Cumsum},
                                    {"l2_norm", L2Norm, L2NormWorkspace}};

}  // namespace

Family reduce_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
