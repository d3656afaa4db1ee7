// Optimizer updates over a floating type; one loop over memory each. Reference and CPU share them:
// the arithmetic of one element is in double either way, and the loops are bound by memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/parallel.h"
#include "kernels/kernel.h"

namespace graft::update {

constexpr int64_t kGrain = 4096;

// The operands behind p, g and `states` states.
template <typename T>
struct Scalars {
  double lr, scale, t;  // t: this step, from 1
  Scalars(const KernelCall& c, size_t states)
      : lr(static_cast<double>(*c.in(2 + states).template as<T>())),
        scale(static_cast<double>(*c.in(4 + states).template as<T>())),
        t(static_cast<double>(*c.in(3 + states).template as<int64_t>() + 1)) {}
};

template <typename T, typename F>
void Each(const KernelCall& c, F f) {
  parallel_for(c.out(0).elements(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

template <typename T>
void Sgd(const KernelCall& c) {
  const auto& a = c.attr<SgdAttrs>();
  const Scalars<T> s(c, 1);
  T *p = c.out(0).template as<T>(), *buf = c.out(1).template as<T>();
  const T* grad = c.in(1).template as<T>();
  Each<T>(c, [&](int64_t i) {
    const double g =
        static_cast<double>(grad[i]) * s.scale + a.weight_decay * static_cast<double>(p[i]);
    double step = g;
    if (a.momentum != 0) {
      const double m =
          s.t == 1 ? g : a.momentum * static_cast<double>(buf[i]) + (1 - a.dampening) * g;
      buf[i] = static_cast<T>(m);
      step = a.nesterov ? g + a.momentum * m : m;
    }
    p[i] = static_cast<T>(static_cast<double>(p[i]) - s.lr * step);
  });
}

// What a step of Adam does to one element, with everything that all of them share worked out.
template <typename T>
struct AdamStep {
  T scale, decay, keep, b1, b2, n1, n2, size, root, eps;
  AdamStep(const AdamAttrs& a, const Scalars<T>& s)
      : scale(static_cast<T>(s.scale)),
        decay(static_cast<T>(a.decoupled ? 0 : a.weight_decay)),
        keep(static_cast<T>(a.decoupled ? 1 - s.lr * a.weight_decay : 1)),
        b1(static_cast<T>(a.beta1)),
        b2(static_cast<T>(a.beta2)),
        n1(static_cast<T>(1 - a.beta1)),
        n2(static_cast<T>(1 - a.beta2)),
        size(static_cast<T>(s.lr / (1 - std::pow(a.beta1, s.t)))),
        root(static_cast<T>(1 / std::sqrt(1 - std::pow(a.beta2, s.t)))),
        eps(static_cast<T>(a.eps)) {}

  void moments(T p, T grad, T& m, T& v) const {
    const T g = grad * scale + decay * p;
    m = b1 * m + n1 * g;
    v = b2 * v + n2 * g * g;
  }
  T parameter(T p, T m, T v) const { return p * keep - size * m / (std::sqrt(v) * root + eps); }
};

template <typename T, bool kAmsgrad>
void Adam(const KernelCall& c) {
  const AdamStep<T> step(c.attr<AdamAttrs>(), Scalars<T>(c, kAmsgrad ? 3 : 2));
  T *p = c.out(0).template as<T>(), *m = c.out(1).template as<T>(), *v = c.out(2).template as<T>();
  T* top = kAmsgrad ? c.out(kAmsgrad ? 3 : 0).template as<T>() : nullptr;
  const T* grad = c.in(1).template as<T>();
  Each<T>(c, [&](int64_t i) {
    step.moments(p[i], grad[i], m[i], v[i]);
    T second = v[i];
    if constexpr (kAmsgrad) second = top[i] = top[i] > v[i] ? top[i] : v[i];
    p[i] = step.parameter(p[i], m[i], second);
  });
}

template <typename T>
void Lion(const KernelCall& c) {
  const auto& a = c.attr<LionAttrs>();
  const Scalars<T> s(c, 1);
  T *p = c.out(0).template as<T>(), *m = c.out(1).template as<T>();
  const T* grad = c.in(1).template as<T>();
  Each<T>(c, [&](int64_t i) {
    const double g = static_cast<double>(grad[i]) * s.scale, old = static_cast<double>(m[i]);
    const double u = a.beta1 * old + (1 - a.beta1) * g;
    p[i] = static_cast<T>(static_cast<double>(p[i]) * (1 - s.lr * a.weight_decay) -
                          s.lr * (u > 0   ? 1
                                  : u < 0 ? -1
                                          : 0));
    m[i] = static_cast<T>(a.beta2 * old + (1 - a.beta2) * g);
  });
}

template <typename T>
void Rmsprop(const KernelCall& c) {
  const auto& a = c.attr<RmspropAttrs>();
  const Scalars<T> s(c, 1);
  T *p = c.out(0).template as<T>(), *v = c.out(1).template as<T>();
  const T* grad = c.in(1).template as<T>();
  Each<T>(c, [&](int64_t i) {
    const double g =
        static_cast<double>(grad[i]) * s.scale + a.weight_decay * static_cast<double>(p[i]);
    const double square = a.alpha * static_cast<double>(v[i]) + (1 - a.alpha) * g * g;
    v[i] = static_cast<T>(square);
    p[i] = static_cast<T>(static_cast<double>(p[i]) - s.lr * g / (std::sqrt(square) + a.eps));
  });
}

template <typename T>
void Adagrad(const KernelCall& c) {
  const auto& a = c.attr<AdagradAttrs>();
  const Scalars<T> s(c, 1);
  T *p = c.out(0).template as<T>(), *v = c.out(1).template as<T>();
  const T* grad = c.in(1).template as<T>();
  const double lr = s.lr / (1 + (s.t - 1) * a.lr_decay);
  Each<T>(c, [&](int64_t i) {
    const double g =
        static_cast<double>(grad[i]) * s.scale + a.weight_decay * static_cast<double>(p[i]);
    const double sum = static_cast<double>(v[i]) + g * g;
    v[i] = static_cast<T>(sum);
    p[i] = static_cast<T>(static_cast<double>(p[i]) - lr * g / (std::sqrt(sum) + a.eps));
  });
}

// Second moments factored into row and column means over the last two axes (tensors of one axis
// keep all of it in `column`). States: row [.., R], column [.., C], moment (as p, or empty).
// Serial: the states are small and every mean has one order.
template <typename T>
void Adafactor(const KernelCall& c) {
  const auto& a = c.attr<AdafactorAttrs>();
  const Scalars<T> s(c, 3);
  const Shape& shape = c.out(0).shape;
  const bool factored = shape.rank() >= 2;
  T *p = c.out(0).template as<T>(), *row = c.out(1).template as<T>(),
    *col = c.out(2).template as<T>(), *moment = c.out(3).template as<T>();
  const T* grad = c.in(1).template as<T>();
  const int64_t n = shape.elements(), C = factored ? shape[-1] : n, R = factored ? shape[-2] : 1,
                batches = C * R == 0 ? 0 : n / (C * R);

  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(p[i]) * static_cast<double>(p[i]);
  const double rms = std::sqrt(squares / static_cast<double>(n));
  double lr = s.lr;
  const double beta2 = 1 - std::pow(s.t, a.decay_rate);
  if (a.torch_rule) {
    lr = std::max(a.eps2, rms) * std::min(s.lr, 1 / std::sqrt(s.t));
  } else {
    if (a.relative_step) lr = std::min(a.warmup_init ? 1e-6 * s.t : 1e-2, 1 / std::sqrt(s.t));
    if (a.scale_parameter) lr *= std::max(a.eps2, rms);
  }
  auto g_of = [&](int64_t i) { return static_cast<double>(grad[i]) * s.scale; };
  // transformers adds eps1 to every square; torch clamps the estimate instead.
  const double added = a.torch_rule ? 0 : a.eps1;
  for (int64_t b = 0; b < batches && factored; ++b) {
    for (int64_t r = 0; r < R; ++r) {
      double sum = 0;
      for (int64_t k = 0; k < C; ++k)
        sum += g_of((b * R + r) * C + k) * g_of((b * R + r) * C + k) + added;
      T& x = row[b * R + r];
      x = static_cast<T>(beta2 * static_cast<double>(x) +
                         (1 - beta2) * sum / static_cast<double>(C));
    }
    for (int64_t k = 0; k < C; ++k) {
      double sum = 0;
      for (int64_t r = 0; r < R; ++r)
        sum += g_of((b * R + r) * C + k) * g_of((b * R + r) * C + k) + added;
      T& x = col[b * C + k];
      x = static_cast<T>(beta2 * static_cast<double>(x) +
                         (1 - beta2) * sum / static_cast<double>(R));
    }
  }
  for (int64_t i = 0; i < n && !factored; ++i) {
    col[i] = static_cast<T>(beta2 * static_cast<double>(col[i]) +
                            (1 - beta2) * (g_of(i) * g_of(i) + added));
  }
  auto mean_row = [&](int64_t b) {
    double sum = 0;
    for (int64_t r = 0; r < R; ++r) sum += static_cast<double>(row[b * R + r]);
    return sum / static_cast<double>(R);
  };
  auto update = [&](int64_t i, double mean) {
    double v = factored ? static_cast<double>(row[i / C]) *
                              static_cast<double>(col[i / (R * C) * C + i % C]) /
                              (a.torch_rule ? std::max(mean, a.eps1) : mean)
                        : static_cast<double>(col[i]);
    if (a.torch_rule) v = std::max(v, a.eps1 * a.eps1);
    return g_of(i) / std::sqrt(v);
  };
  double update_squares = 0;
  for (int64_t b = 0; b < batches; ++b) {
    const double mean = factored ? mean_row(b) : 0;
    for (int64_t i = b * R * C; i < (b + 1) * R * C; ++i)
      update_squares += update(i, mean) * update(i, mean);
  }
  const double clip =
      std::max(1.0, std::sqrt(update_squares / static_cast<double>(n)) / a.clip_threshold);
  for (int64_t b = 0; b < batches; ++b) {
    const double mean = factored ? mean_row(b) : 0;
    for (int64_t i = b * R * C; i < (b + 1) * R * C; ++i) {
      double u = lr * update(i, mean) / clip;
      if (a.beta1 >= 0) {
        u = a.beta1 * static_cast<double>(moment[i]) + (1 - a.beta1) * u;
        moment[i] = static_cast<T>(u);
      }
      const double decay = (a.torch_rule ? s.lr : lr) * a.weight_decay;
      p[i] = static_cast<T>(static_cast<double>(p[i]) * (1 - decay) - u);
    }
  }
}

inline double ScheduledLr(const ScheduleAttrs& a, int64_t step) {
  const double t = static_cast<double>(step), warmup = static_cast<double>(a.warmup),
               total = static_cast<double>(a.total);
  if (a.kind == "constant") return a.lr;
  if (a.kind == "wordnet") {  // W = max(1, T div 10): (t + 1) / W, then (T - t) / (T - W)
    const double w = std::max(1.0, std::floor(total / 10));
    return a.lr * (t < w ? (t + 1) / w : std::max(0.0, total - t) / std::max(1.0, total - w));
  }
  const double shift = a.kind == "inverse_sqrt"
                           ? (a.timescale > 0 ? static_cast<double>(a.timescale)
                              : warmup > 0    ? warmup
                                              : 10000) -
                                 warmup
                           : 0;
  if (t < warmup) return a.lr * t / std::max(1.0, warmup);
  if (a.kind == "constant_with_warmup") return a.lr;
  if (a.kind == "inverse_sqrt") return a.lr / std::sqrt((t + shift) / (warmup + shift));
  const double progress = (t - warmup) / std::max(1.0, total - warmup);
  if (a.kind == "cosine")
    return a.lr * std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * 2 * a.cycles * progress)));
  if (a.kind == "cosine_with_restarts") {
    if (progress >= 1) return 0;
    return a.lr *
           std::max(0.0,
                    0.5 * (1 + std::cos(std::numbers::pi * std::fmod(a.cycles * progress, 1.0))));
  }
  if (a.kind == "polynomial") {
    if (t > total) return a.lr_end;
    return (a.lr - a.lr_end) * std::pow(1 - progress, a.power) + a.lr_end;
  }
  return a.lr * std::max(0.0, 1 - progress);  // linear
}

template <typename T>
void Schedule(const KernelCall& c) {
  *c.out().template as<T>() =
      static_cast<T>(ScheduledLr(c.attr<ScheduleAttrs>(), *c.in(0).as<int64_t>()));
}

inline void Increment(const KernelCall& c) {
  if (c.out().dtype == DType::i64)
    ++*c.out().as<int64_t>();
  else
    ++*c.out().as<int32_t>();
}

template <typename T>
void ClipCoefficient(const KernelCall& c) {
  const double norm = static_cast<double>(*c.in(0).template as<T>());
  *c.out().template as<T>() =
      static_cast<T>(std::min(1.0, c.attr<ScalarAttrs>().value / (norm + 1e-6)));
}

// AdaLoRA's importance of single entries, |p g|, smoothed, and its uncertainty.
template <typename T>
void AdaloraImportance(const KernelCall& c) {
  const auto& a = c.attr<AdaloraImportanceAttrs>();
  const bool moves = *c.in(4).as<int64_t>() < a.last;
  const T *p = c.in(0).template as<T>(), *g = c.in(1).template as<T>();
  T *average = c.out(0).template as<T>(), *uncertainty = c.out(1).template as<T>(),
    *score = c.out(2).template as<T>();
  const T b1 = static_cast<T>(a.beta1), b2 = static_cast<T>(a.beta2);
  Each<T>(c, [&](int64_t i) {
    if (moves) {
      const T now = std::fabs(p[i] * g[i]);
      average[i] = b1 * average[i] + (1 - b1) * now;
      uncertainty[i] = b2 * uncertainty[i] + (1 - b2) * std::fabs(now - average[i]);
    }
    score[i] = average[i] * uncertainty[i];
  });
}

// AdaLoRA's budget (methods.md 5.7): on a pruning step keep = whether the score is among the
// budget's largest; in the final phase the last choice stays.
template <typename T>
void AdaloraAllocate(const KernelCall& c) {
  const auto& a = c.attr<AdaloraAttrs>();
  const int64_t step = *c.in(2).as<int64_t>(), last = a.total - a.tfinal;
  const T* scores = c.in(0).template as<T>();
  T *keep = c.out(0).template as<T>(), *factor = c.out(1).template as<T>();
  const int64_t n = c.out(0).elements();
  const bool prunes = step > a.tinit && step <= last && (step == last || step % a.delta_t == 0);
  if (prunes) {  // so last > tinit
    const auto init = static_cast<double>(a.init), target = static_cast<double>(a.target);
    const double left =
        1 - static_cast<double>(step - a.tinit) / static_cast<double>(last - a.tinit);
    const auto budget = static_cast<int64_t>((init - target) * left * left * left + target);
    if (const int64_t drop = std::min(n, a.init - budget); drop > 0) {
      T* sorted = static_cast<T*>(c.workspace);
      // NaN has no place in an order: the scores of a diverged run are dropped first.
      std::transform(scores, scores + n, sorted, [](T score) {
        return std::isnan(score) ? -std::numeric_limits<T>::infinity() : score;
      });
      std::nth_element(sorted, sorted + drop - 1, sorted + n);
      for (int64_t i = 0; i < n; ++i) keep[i] = scores[i] > sorted[drop - 1] ? T{1} : T{0};
    }
  }
  const bool masks = prunes || step > last;
  for (int64_t i = 0; i < n; ++i) factor[i] = masks ? keep[i] : T{1};
}

template <typename T>
size_t AdaloraWorkspace(const KernelCall& c) {
  return static_cast<size_t>(c.in(0).elements()) * sizeof(T);
}

}  // namespace graft::update
