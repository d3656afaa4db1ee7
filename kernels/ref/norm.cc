// Softmax and norms in double.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/move.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {

// Calls f(base, stride, size) for every line along the axis.
template <typename F>
void EachLine(const KernelCall& c, F f) {
  const move::Split3 s(c.out().shape, c.attr<AxisAttrs>().axis);
  for (int64_t i = 0; i < s.outer * s.inner && s.size > 0; ++i)
    f(i / s.inner * s.size * s.inner + i % s.inner, s.inner, s.size);
}

// The largest entry and the sum of exp(x - top). They are never added: top may be as large as
// -3.4e38 (masks).
struct Exponentials {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  Exponentials(const double* x, int64_t stride, int64_t n) {
    for (int64_t i = 0; i < n; ++i) top = std::max(top, x[i * stride]);
    for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i * stride] - top);
  }
};

void LogSoftmax(const KernelCall& c) {
  EachLine(c, [&](int64_t at, int64_t stride, int64_t n) {
    const double* x = c.in(0).as<double>() + at;
    const Exponentials e(x, stride, n);
    for (int64_t i = 0; i < n; ++i)
      c.out().as<double>()[at + i * stride] = x[i * stride] - e.top - std::log(e.sum);
  });
}

void Softmax(const KernelCall& c) {
  EachLine(c, [&](int64_t at, int64_t stride, int64_t n) {
    const double* x = c.in(0).as<double>() + at;
    const Exponentials e(x, stride, n);
    for (int64_t i = 0; i < n; ++i)
      c.out().as<double>()[at + i * stride] = std::exp(x[i * stride] - e.top) / e.sum;
  });
}

void SoftmaxBackward(const KernelCall& c) {
  EachLine(c, [&](int64_t at, int64_t stride, int64_t n) {
    const double *dy = c.in(0).as<double>() + at, *y = c.in(1).as<double>() + at;
    double dot = 0;
    for (int64_t i = 0; i < n; ++i) dot += dy[i * stride] * y[i * stride];
    for (int64_t i = 0; i < n; ++i)
      c.out().as<double>()[at + i * stride] = y[i * stride] * (dy[i * stride] - dot);
  });
}

void LogSoftmaxBackward(const KernelCall& c) {
  EachLine(c, [&](int64_t at, int64_t stride, int64_t n) {
    const double *dy = c.in(0).as<double>() + at, *y = c.in(1).as<double>() + at;
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += dy[i * stride];
    for (int64_t i = 0; i < n; ++i)
      c.out().as<double>()[at + i * stride] = dy[i * stride] - std::exp(y[i * stride]) * sum;
  });
}

struct Stats {
  double mean = 0, rstd = 0;
};

Stats RowStats(const double* x, int64_t n, double eps, bool centered) {
  Stats s;
  if (centered) {
    for (int64_t i = 0; i < n; ++i) s.mean += x[i];
    s.mean /= static_cast<double>(n);
  }
  double var = 0;
  for (int64_t i = 0; i < n; ++i) var += (x[i] - s.mean) * (x[i] - s.mean);
  s.rstd = 1 / std::sqrt(var / static_cast<double>(n) + eps);
  return s;
}

template <bool kCentered>
void Norm(const KernelCall& c) {
  const int64_t n = c.out().shape[-1], rows = n == 0 ? 0 : c.out().elements() / n;
  for (int64_t r = 0; r < rows; ++r) {
    const double* x = c.in(0).as<double>() + r * n;
    const Stats s = RowStats(x, n, c.attr<EpsAttrs>().eps, kCentered);
    for (int64_t i = 0; i < n; ++i) {
      const double w = c.has(1) ? c.in(1).as<double>()[i] : 1,
                   b = c.has(2) ? c.in(2).as<double>()[i] : 0;
      c.out().as<double>()[r * n + i] = (x[i] - s.mean) * s.rstd * w + b;
    }
  }
}

template <bool kCentered>
void NormDx(const KernelCall& c) {
  const int64_t n = c.out().shape[-1], rows = n == 0 ? 0 : c.out().elements() / n;
  for (int64_t r = 0; r < rows; ++r) {
    const double *dy = c.in(0).as<double>() + r * n, *x = c.in(1).as<double>() + r * n;
    const Stats s = RowStats(x, n, c.attr<EpsAttrs>().eps, kCentered);
    auto g = [&](int64_t i) { return dy[i] * (c.has(2) ? c.in(2).as<double>()[i] : 1); };
    auto hat = [&](int64_t i) { return (x[i] - s.mean) * s.rstd; };
    double mean_g = 0, mean_gx = 0;
    for (int64_t i = 0; i < n; ++i) {
      mean_g += g(i);
      mean_gx += g(i) * hat(i);
    }
    mean_g = kCentered ? mean_g / static_cast<double>(n) : 0;
    mean_gx /= static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i)
      c.out().as<double>()[r * n + i] = s.rstd * (g(i) - mean_g - hat(i) * mean_gx);
  }
}

template <bool kCentered>
void NormDparams(const KernelCall& c) {
  const int64_t n = c.in(0).shape[-1], rows = n == 0 ? 0 : c.in(0).elements() / n;
  std::fill_n(c.out(0).as<double>(), n, 0.0);
  std::fill_n(c.out(1).as<double>(), n, 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    const double *dy = c.in(0).as<double>() + r * n, *x = c.in(1).as<double>() + r * n;
    const Stats s = RowStats(x, n, c.attr<EpsAttrs>().eps, kCentered);
    for (int64_t i = 0; i < n; ++i) {
      c.out(0).as<double>()[i] += dy[i] * (x[i] - s.mean) * s.rstd;
      c.out(1).as<double>()[i] += dy[i];
    }
  }
}

constexpr KernelEntry kKernels[] = {
    {"softmax", Softmax},
    {"softmax_backward", SoftmaxBackward},
    {"log_softmax", LogSoftmax},
    {"log_softmax_backward", LogSoftmaxBackward},
    {"layer_norm", Norm<true>},
    {"layer_norm_dx", NormDx<true>},
    {"layer_norm_dparams", NormDparams<true>},
    {"rms_norm", Norm<false>},
    {"rms_norm_dx", NormDx<false>},
    {"rms_norm_dparams", NormDparams<false>},
};

}  // namespace

Family norm_kernels() { return kKernels; }

}  // namespace graft::ref
