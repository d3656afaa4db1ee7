// Losses over a floating type: rows are short (classes), so reference and CPU share these loops;
// sums are in double.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/broadcast.h"

namespace graft::loss {

// A target outside [0, C) counts as ignored; callers refuse such labels before a run.
template <typename A>
bool Kept(int64_t target, int64_t classes, const A& a) {
  return target != a.ignore_index && target >= 0 && target < classes;
}

// log p[k] of a row of logits. The maximum and the logarithm are never added: masked logits may be
// as large as -3.4e38.
template <typename T>
struct LogProbability {
  const T* x;
  double top, log_sum;
  LogProbability(const T* row, int64_t n)
      : x(row), top(static_cast<double>(*std::max_element(row, row + n))) {
    double sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += std::exp(static_cast<double>(x[k]) - top);
    log_sum = std::log(sum);
  }
  double operator()(int64_t k) const { return static_cast<double>(x[k]) - top - log_sum; }
};

// -(1 - s) log p[target] - s mean_k log p[k]
template <typename T>
void CrossEntropy(const KernelCall& c) {
  const auto& a = c.attr<LossAttrs>();
  const int64_t n = c.in(0).shape[0], classes = c.in(0).shape[1];
  double total = 0;
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T* x = c.in(0).template as<T>() + i * classes;
    const int64_t t = LoadInt(c.in(1), i);
    double loss = 0;
    if (Kept(t, classes, a)) {
      const LogProbability<T> log_p(x, classes);
      loss = -(1 - a.label_smoothing) * log_p(t);
      if (a.label_smoothing > 0) {
        double sum = 0;
        for (int64_t k = 0; k < classes; ++k) sum -= log_p(k);
        loss += a.label_smoothing * sum / static_cast<double>(classes);
      }
      ++kept;
    }
    total += loss;
    if (a.reduction == "none") c.out().template as<T>()[i] = static_cast<T>(loss);
  }
  if (a.reduction != "none") {
    *c.out().template as<T>() =
        static_cast<T>(a.reduction == "mean" ? total / static_cast<double>(kept) : total);
  }
}

template <typename T>
void CrossEntropyBackward(const KernelCall& c) {
  const auto& a = c.attr<LossAttrs>();
  const int64_t n = c.in(1).shape[0], classes = c.in(1).shape[1];
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) kept += Kept(LoadInt(c.in(2), i), classes, a);
  for (int64_t i = 0; i < n; ++i) {
    const T* x = c.in(1).template as<T>() + i * classes;
    T* dx = c.out().template as<T>() + i * classes;
    const int64_t t = LoadInt(c.in(2), i);
    if (!Kept(t, classes, a)) {
      std::fill_n(dx, classes, T{0});
      continue;
    }
    double g = static_cast<double>(c.in(0).template as<T>()[a.reduction == "none" ? i : 0]);
    if (a.reduction == "mean") g /= static_cast<double>(kept);
    const LogProbability<T> log_p(x, classes);
    const double even = a.label_smoothing / static_cast<double>(classes);
    for (int64_t k = 0; k < classes; ++k) {
      const double p = std::exp(log_p(k));
      dx[k] = static_cast<T>(g * (p - even - (k == t ? 1 - a.label_smoothing : 0)));
    }
  }
}

inline double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

template <typename T>
void Bce(const KernelCall& c) {
  const bool weighted = c.has(2);
  const BroadcastIndex iw(weighted ? c.in(2).shape : Shape{}, c.out().shape);
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    const double x = static_cast<double>(c.in(0).template as<T>()[i]),
                 y = static_cast<double>(c.in(1).template as<T>()[i]);
    const double w = weighted ? static_cast<double>(c.in(2).template as<T>()[iw(i)]) : 1;
    c.out().template as<T>()[i] = static_cast<T>((1 - y) * x + (1 + (w - 1) * y) * Softplus(-x));
  }
}

template <typename T>
void BceBackward(const KernelCall& c) {
  const bool weighted = c.has(3);
  const BroadcastIndex iw(weighted ? c.in(3).shape : Shape{}, c.out().shape);
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    const double x = static_cast<double>(c.in(1).template as<T>()[i]),
                 y = static_cast<double>(c.in(2).template as<T>()[i]);
    const double w = weighted ? static_cast<double>(c.in(3).template as<T>()[iw(i)]) : 1;
    const double slope = (1 - y) - (1 + (w - 1) * y) / (1 + std::exp(x));
    c.out().template as<T>()[i] =
        static_cast<T>(static_cast<double>(c.in(0).template as<T>()[i]) * slope);
  }
}

}  // namespace graft::loss
