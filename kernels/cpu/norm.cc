// Softmax and norms with Highway: a row is read once from memory and then again from L1.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cc"
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/row-inl.h"
#include "kernels/move.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void SoftmaxRow(const float* x, float* y, size_t n, bool log) {
  const hn::ScalableTag<float> d;
  const float top = ReduceMax(d, x, n);
  if (log) {
    const float sum = ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR {
      return ExpV(d, hn::Sub(LoadMasked(d, mask, x + i), hn::Set(d, top)));
    });
    const float log_sum = std::log(sum);
    EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
      const auto v = hn::Sub(LoadMasked(d, mask, x + i), hn::Set(d, top));
      StoreMasked(hn::Sub(v, hn::Set(d, log_sum)), mask, d, y + i);
    });
    return;
  }
  const float sum = ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto e = ExpV(d, hn::Sub(LoadMasked(d, mask, x + i), hn::Set(d, top)));
    StoreMasked(e, mask, d, y + i);
    return e;
  });
  const auto factor = hn::Set(d, 1 / sum);
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    StoreMasked(hn::Mul(LoadMasked(d, mask, y + i), factor), mask, d, y + i);
  });
}

void SoftmaxBackwardRow(const float* dy, const float* y, float* dx, size_t n, bool log) {
  const hn::ScalableTag<float> d;
  const float dot = ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto g = LoadMasked(d, mask, dy + i);
    return log ? g : hn::Mul(g, LoadMasked(d, mask, y + i));
  });
  const auto s = hn::Set(d, dot);
  EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto g = LoadMasked(d, mask, dy + i), v = LoadMasked(d, mask, y + i);
    StoreMasked(log ? hn::NegMulAdd(ExpV(d, v), s, g) : hn::Mul(v, hn::Sub(g, s)), mask, d, dx + i);
  });
}

struct Stats {
  float mean, rstd;
};

HWY_INLINE Stats RowStats(const float* x, size_t n, float eps, bool centered) {
  const hn::ScalableTag<float> d;
  const float count = static_cast<float>(n);
  const float mean = centered ? ReduceSum(d, n,
                                          [&](size_t i, auto mask)
                                              HWY_ATTR { return LoadMasked(d, mask, x + i); }) /
                                    count
                              : 0;
  const float squares = ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR {
    const auto v = hn::Sub(LoadMasked(d, mask, x + i), hn::Set(d, mean));
    return hn::IfThenElseZero(mask, hn::Mul(v, v));
  });
  return {mean, 1 / std::sqrt(squares / count + eps)};
}

void NormRows(const float* x, const float* weight, const float* bias, float* y, size_t rows,
              size_t n, float eps, bool centered) {
  const hn::ScalableTag<float> d;
  for (size_t r = 0; r < rows; ++r, x += n, y += n) {
    const Stats s = RowStats(x, n, eps, centered);
    const auto rstd = hn::Set(d, s.rstd), mean = hn::Set(d, s.mean);
    EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
      auto v = hn::Mul(hn::Sub(LoadMasked(d, mask, x + i), mean), rstd);
      if (weight != nullptr) v = hn::Mul(v, LoadMasked(d, mask, weight + i));
      if (bias != nullptr) v = hn::Add(v, LoadMasked(d, mask, bias + i));
      StoreMasked(v, mask, d, y + i);
    });
  }
}

void NormDxRows(const float* dy, const float* x, const float* weight, float* dx, size_t rows,
                size_t n, float eps, bool centered) {
  const hn::ScalableTag<float> d;
  const float count = static_cast<float>(n);
  for (size_t r = 0; r < rows; ++r, x += n, dy += n, dx += n) {
    const Stats s = RowStats(x, n, eps, centered);
    const auto rstd = hn::Set(d, s.rstd), mean = hn::Set(d, s.mean);
    const auto hat = [&](size_t i, auto mask) HWY_ATTR {
      return hn::Mul(hn::Sub(LoadMasked(d, mask, x + i), mean), rstd);
    };
    const auto g = [&](size_t i, auto mask) HWY_ATTR {
      const auto v = LoadMasked(d, mask, dy + i);
      return weight == nullptr ? v : hn::Mul(v, LoadMasked(d, mask, weight + i));
    };
    const float sum_g =
        centered ? ReduceSum(d, n, [&](size_t i, auto mask) HWY_ATTR { return g(i, mask); }) : 0;
    const float sum_gx = ReduceSum(
        d, n, [&](size_t i, auto mask) HWY_ATTR { return hn::Mul(g(i, mask), hat(i, mask)); });
    const auto mean_g = hn::Set(d, sum_g / count), mean_gx = hn::Set(d, sum_gx / count);
    EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
      const auto v = hn::NegMulAdd(hat(i, mask), mean_gx, hn::Sub(g(i, mask), mean_g));
      StoreMasked(hn::Mul(v, rstd), mask, d, dx + i);
    });
  }
}

// dweight += dy * hat, dbias += dy over the rows.
void NormDparamsRows(const float* dy, const float* x, float* dweight, float* dbias, size_t rows,
                     size_t n, float eps, bool centered) {
  const hn::ScalableTag<float> d;
  for (size_t r = 0; r < rows; ++r, x += n, dy += n) {
    const Stats s = RowStats(x, n, eps, centered);
    const auto rstd = hn::Set(d, s.rstd), mean = hn::Set(d, s.mean);
    EachVector(d, n, [&](size_t i, auto mask) HWY_ATTR {
      const auto g = LoadMasked(d, mask, dy + i);
      const auto hat = hn::Mul(hn::Sub(LoadMasked(d, mask, x + i), mean), rstd);
      StoreMasked(hn::MulAdd(g, hat, LoadMasked(d, mask, dweight + i)), mask, d, dweight + i);
      StoreMasked(hn::Add(g, LoadMasked(d, mask, dbias + i)), mask, d, dbias + i);
    });
  }
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(SoftmaxRow);
HWY_EXPORT(SoftmaxBackwardRow);
HWY_EXPORT(NormRows);
HWY_EXPORT(NormDxRows);
HWY_EXPORT(NormDparamsRows);

namespace {

// Lines along the last axis go straight to `row`; others are copied to scratch and back, in scalar
// code that no model needs.
template <typename Row>
void SoftmaxLines(const KernelCall& c, int operands, Row row) {
  const move::Split3 s(c.out().shape, c.attr<AxisAttrs>().axis);
  if (s.size == 0) return;
  const float* x[2] = {c.in(0).as<float>(), operands > 1 ? c.in(1).as<float>() : nullptr};
  float* y = c.out().as<float>();
  if (s.inner == 1) {
    parallel_for(s.outer, std::max<int64_t>(1, 8192 / s.size), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        row(x[0] + r * s.size, x[1] + (x[1] ? r * s.size : 0), y + r * s.size, s.size);
    });
    return;
  }
  float* line = static_cast<float*>(c.workspace);
  for (int64_t i = 0; i < s.outer * s.inner; ++i) {
    const int64_t at = i / s.inner * s.size * s.inner + i % s.inner;
    for (int o = 0; o < operands; ++o) {
      for (int64_t k = 0; k < s.size; ++k) line[o * s.size + k] = x[o][at + k * s.inner];
    }
    row(line, line + s.size, line, s.size);
    for (int64_t k = 0; k < s.size; ++k) y[at + k * s.inner] = line[k];
  }
}
size_t LineWorkspace(const KernelCall& c) {
  const move::Split3 s(c.out().shape, c.attr<AxisAttrs>().axis);
  return s.inner == 1 ? 0 : 2 * static_cast<size_t>(s.size) * sizeof(float);
}

template <bool kLog>
void Softmax(const KernelCall& c) {
  const auto f = GRAFT_DISPATCH(SoftmaxRow);
  SoftmaxLines(c, 1, [f](const float* x, const float*, float* y, int64_t n) {
    f(x, y, static_cast<size_t>(n), kLog);
  });
}
template <bool kLog>
void SoftmaxBackward(const KernelCall& c) {
  const auto f = GRAFT_DISPATCH(SoftmaxBackwardRow);
  SoftmaxLines(c, 2, [f](const float* dy, const float* y, float* dx, int64_t n) {
    f(dy, y, dx, static_cast<size_t>(n), kLog);
  });
}

template <bool kCentered>
void Norm(const KernelCall& c) {
  const int64_t n = c.out().shape[-1], rows = n == 0 ? 0 : c.out().elements() / n;
  const auto f = GRAFT_DISPATCH(NormRows);
  parallel_for(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, n)),
               [&](int64_t begin, int64_t end) {
                 f(c.in(0).as<float>() + begin * n, c.has(1) ? c.in(1).as<float>() : nullptr,
                   c.has(2) ? c.in(2).as<float>() : nullptr, c.out().as<float>() + begin * n,
                   static_cast<size_t>(end - begin), static_cast<size_t>(n),
                   static_cast<float>(c.attr<EpsAttrs>().eps), kCentered);
               });
}

template <bool kCentered>
void NormDx(const KernelCall& c) {
  const int64_t n = c.out().shape[-1], rows = n == 0 ? 0 : c.out().elements() / n;
  const auto f = GRAFT_DISPATCH(NormDxRows);
  parallel_for(rows, std::max<int64_t>(1, 8192 / std::max<int64_t>(1, n)),
               [&](int64_t begin, int64_t end) {
                 f(c.in(0).as<float>() + begin * n, c.in(1).as<float>() + begin * n,
                   c.has(2) ? c.in(2).as<float>() : nullptr, c.out().as<float>() + begin * n,
                   static_cast<size_t>(end - begin), static_cast<size_t>(n),
                   static_cast<float>(c.attr<EpsAttrs>().eps), kCentered);
               });
}

// Rows in chunks of fixed size, each with its own partial sums, added in order: independent of the
// number of threads.
constexpr int64_t kRowChunk = 256;

template <bool kCentered>
void NormDparams(const KernelCall& c) {
  const int64_t n = c.in(0).shape[-1], rows = n == 0 ? 0 : c.in(0).elements() / n;
  const int64_t chunks = (rows + kRowChunk - 1) / kRowChunk;
  float* partial = static_cast<float*>(c.workspace);
  const auto f = GRAFT_DISPATCH(NormDparamsRows);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* mine = partial + i * 2 * n;
      std::fill_n(mine, 2 * n, 0.0f);
      const int64_t first = i * kRowChunk, count = std::min(kRowChunk, rows - first);
      f(c.in(0).as<float>() + first * n, c.in(1).as<float>() + first * n, mine, mine + n,
        static_cast<size_t>(count), static_cast<size_t>(n),
        static_cast<float>(c.attr<EpsAttrs>().eps), kCentered);
    }
  });
  for (size_t o = 0; o < 2; ++o) {
    float* y = c.out(o).as<float>();
    std::fill_n(y, n, 0.0f);
    for (int64_t i = 0; i < chunks; ++i) {
      const float* mine = partial + i * 2 * n + static_cast<int64_t>(o) * n;
      for (int64_t k = 0; k < n; ++k) y[k] += mine[k];
    }
  }
}
size_t DparamsWorkspace(const KernelCall& c) {
  const int64_t n = c.in(0).shape[-1], rows = n == 0 ? 0 : c.in(0).elements() / n;
  return static_cast<size_t>((rows + kRowChunk - 1) / kRowChunk * 2 * n) * sizeof(float);
}

constexpr KernelEntry kKernels[] = {
    {"softmax", Softmax<false>, LineWorkspace},
    {"softmax_backward", SoftmaxBackward<false>, LineWorkspace},
    {"log_softmax", Softmax<true>, LineWorkspace},
    {"log_softmax_backward", SoftmaxBackward<true>, LineWorkspace},
    {"layer_norm", Norm<true>},
    {"layer_norm_dx", NormDx<true>},
    {"layer_norm_dparams", NormDparams<true>, DparamsWorkspace},
    {"rms_norm", Norm<false>},
    {"rms_norm_dx", NormDx<false>},
    {"rms_norm_dparams", NormDparams<false>, DparamsWorkspace},
};

}  // namespace

Family norm_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
