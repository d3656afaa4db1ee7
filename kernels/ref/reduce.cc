// Reductions in double.
#include <algorithm>
#include <cmath>

#include "kernels/move.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {

// Flat position in the result for a flat position in x.
class ReducedIndex {
 public:
  explicit ReducedIndex(const KernelCall& c) : x_(c.in(0).shape) {
    int64_t n = 1;
    const auto& axes = c.attr<ReduceAttrs>().axes;
    for (int i = x_.rank() - 1; i >= 0; --i) {
      const bool gone = std::ranges::binary_search(axes, i);
      strides_[static_cast<size_t>(i)] = gone ? 0 : n;
      if (!gone) n *= x_[i];
    }
  }
  int64_t operator()(int64_t flat) const {
    int64_t at = 0;
    for (int i = x_.rank() - 1; i >= 0; --i) {
      at += flat % x_[i] * strides_[static_cast<size_t>(i)];
      flat /= x_[i];
    }
    return at;
  }

 private:
  Shape x_;
  std::array<int64_t, Shape::kMaxRank> strides_{};
};

void Sum(const KernelCall& c) {
  double* y = c.out().as<double>();
  std::fill_n(y, c.out().elements(), 0.0);
  const ReducedIndex at(c);
  for (int64_t i = 0, n = c.in(0).elements(); i < n; ++i) y[at(i)] += c.in(0).as<double>()[i];
}

void Mean(const KernelCall& c) {
  Sum(c);
  const int64_t n = c.out().elements();
  for (int64_t i = 0; i < n; ++i)
    c.out().as<double>()[i] *= static_cast<double>(n) / static_cast<double>(c.in(0).elements());
}

void Max(const KernelCall& c) {
  const move::Split3 s(c.in(0).shape, c.attr<ReduceAttrs>().axes[0]);
  const double* x = c.in(0).as<double>();
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t j = 0; j < s.inner; ++j) {
      const int64_t best = move::ArgMax(x + o * s.size * s.inner + j, s.size, s.inner);
      c.out(0).as<double>()[o * s.inner + j] = x[(o * s.size + best) * s.inner + j];
      c.out(1).as<int64_t>()[o * s.inner + j] = best;
    }
  }
}

void Cumsum(const KernelCall& c) {
  const auto& a = c.attr<CumsumAttrs>();
  const move::Split3 s(c.in(0).shape, a.axis);
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t j = 0; j < s.inner; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < s.size; ++k) {
        const int64_t at = (o * s.size + (a.reverse ? s.size - 1 - k : k)) * s.inner + j;
        sum += c.in(0).as<double>()[at];
        c.out().as<double>()[at] = sum;
      }
    }
  }
}

void L2Norm(const KernelCall& c) {
  double sum = 0;
  for (const View& x : c.inputs) {
    for (int64_t i = 0, n = x.elements(); i < n; ++i) sum += x.as<double>()[i] * x.as<double>()[i];
  }
  *c.out().as<double>() = std::sqrt(sum);
}

constexpr KernelEntry kKernels[] = {
    {"sum", Sum}, {"mean", Mean}, {"max", Max}, {"cumsum", Cumsum}, {"l2_norm", L2Norm}};

}  // namespace

Family reduce_kernels() { return kKernels; }

}  // namespace graft::ref
