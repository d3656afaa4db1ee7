// Cross entropy of a linear layer in double: the definition, one logit at a time.
#include "kernels/head_loss.h"

#include <cmath>
#include <limits>

#include "kernels/loss.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {

struct Head {
  const HeadLossAttrs& a;
  int64_t n, features, classes;
  const double *x, *w, *bias;
  const View& target;

  Head(const KernelCall& c, size_t first, size_t bias_at)
      : a(c.attr<HeadLossAttrs>()),
        n(c.in(first).shape[0]),
        features(c.in(first).shape[1]),
        classes(c.in(first + 1).shape[0]),
        x(c.in(first).as<double>()),
        w(c.in(first + 1).as<double>()),
        bias(c.has(bias_at) ? c.in(bias_at).as<double>() : nullptr),
        target(c.in(first + 2)) {}

  double linear(int64_t i, int64_t k) const {
    double dot = 0;
    for (int64_t j = 0; j < features; ++j) dot += x[i * features + j] * w[k * features + j];
    return a.scale * dot + (bias == nullptr ? 0 : bias[k]);
  }
  double logit(int64_t i, int64_t k) const {
    const double y = linear(i, k);
    return a.softcap > 0 ? a.softcap * std::tanh(y / a.softcap) : y;
  }
  double slope(double logit) const {
    const double t = a.softcap > 0 ? logit / a.softcap : 0;
    return 1 - t * t;
  }
  int64_t label(int64_t i) const { return LoadInt(target, i); }
  bool kept(int64_t i) const { return loss::Kept(label(i), classes, a); }
  int64_t kept_rows() const {
    int64_t kept_rows = 0;
    for (int64_t i = 0; i < n; ++i) kept_rows += kept(i);
    return kept_rows;
  }
};

void LinearCrossEntropy(const KernelCall& c) {  // x, w, target, bias
  const Head h(c, 0, 3);
  double total = 0;
  for (int64_t i = 0; i < h.n; ++i) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0, all = 0;
    for (int64_t k = 0; k < h.classes; ++k) top = std::fmax(top, h.logit(i, k));
    for (int64_t k = 0; k < h.classes; ++k) {
      const double z = h.logit(i, k);
      sum += std::exp(z - top);
      all += z;
    }
    c.out(1).as<double>()[2 * i] = top;
    c.out(1).as<double>()[2 * i + 1] = std::log(sum);
    const double loss = !h.kept(i) ? 0
                                   : HeadRowLoss(h.a, top, std::log(sum), h.logit(i, h.label(i)),
                                                 all / static_cast<double>(h.classes));
    if (h.a.reduction == "none") c.out().as<double>()[i] = loss;
    total += loss;
  }
  if (h.a.reduction == "none") return;
  *c.out().as<double>() =
      h.a.reduction == "mean" ? total / static_cast<double>(h.kept_rows()) : total;
}

void LinearCrossEntropyBackward(const KernelCall& c) {  // dout, x, w, target, statistics, bias
  const Head h(c, 1, 5);
  for (const View& v : c.outputs) std::fill_n(v.as<double>(), v.elements(), 0.0);
  const auto kept_rows = static_cast<double>(h.kept_rows());
  const double even = h.a.label_smoothing / static_cast<double>(h.classes);
  for (int64_t i = 0; i < h.n; ++i) {
    if (!h.kept(i)) continue;
    double g = c.in(0).as<double>()[h.a.reduction == "none" ? i : 0];
    if (h.a.reduction == "mean") g /= kept_rows;
    const double top = c.in(4).as<double>()[2 * i], log_sum = c.in(4).as<double>()[2 * i + 1];
    for (int64_t k = 0; k < h.classes; ++k) {
      const double z = h.logit(i, k), p = std::exp(z - top - log_sum);
      const double d =
          g * (p - even - (k == h.label(i) ? 1 - h.a.label_smoothing : 0)) * h.slope(z);
      if (h.a.need_dbias) c.out(2).as<double>()[k] += d;
      for (int64_t j = 0; j < h.features; ++j) {
        const int64_t xi = i * h.features + j, wi = k * h.features + j;
        if (h.a.need_dx) c.out(0).as<double>()[xi] += h.a.scale * d * h.w[wi];
        if (h.a.need_dw) c.out(1).as<double>()[wi] += h.a.scale * d * h.x[xi];
      }
    }
  }
}

constexpr KernelEntry kKernels[] = {{"linear_cross_entropy", LinearCrossEntropy},
                                    {"linear_cross_entropy_backward", LinearCrossEntropyBackward}};

}  // namespace

Family head_loss_kernels() { return kKernels; }

}  // namespace graft::ref
