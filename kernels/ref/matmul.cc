// Matrix products in double: three loops.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/broadcast.h"
#include "kernels/packed.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {

// c[i, j] = sum_k a(i, k) b(k, j).
template <typename A, typename B>
void Product(int64_t m, int64_t n, int64_t k, A a, B b, double* c) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p) sum += a(i, p) * b(p, j);
      c[i * n + j] = sum;
    }
  }
}

// Elements of a stored matrix: row after row, or the transpose of that.
auto Rows(const double* x, int64_t stride) {
  return [=](int64_t i, int64_t j) { return x[i * stride + j]; };
}
auto Columns(const double* x, int64_t stride) {
  return [=](int64_t i, int64_t j) { return x[j * stride + i]; };
}

void Matmul(const KernelCall& c) {
  const auto& t = c.attr<MatmulAttrs>();
  const Shape &x = c.in(0).shape, &y = c.in(1).shape, &z = c.out().shape;
  const int64_t m = z[-2], n = z[-1], k = x[t.tx ? -2 : -1];
  const Shape batch = z.batch();
  const BroadcastIndex ix(x.batch(), batch), iy(y.batch(), batch);
  for (int64_t i = 0, count = batch.elements(); i < count; ++i) {
    const double* a = c.in(0).as<double>() + ix(i) * m * k;
    const double* b = c.in(1).as<double>() + iy(i) * k * n;
    double* out = c.out().as<double>() + i * m * n;
    const auto with = [&](auto left) {
      t.ty ? Product(m, n, k, left, Columns(b, k), out) : Product(m, n, k, left, Rows(b, n), out);
    };
    t.tx ? with(Columns(a, m)) : with(Rows(a, k));
  }
}

void Linear(const KernelCall& c) {
  const int64_t out = c.in(1).shape[0], in = c.in(1).shape[1];
  const int64_t rows = c.in(0).shape.product(0, c.in(0).shape.rank() - 1);
  double* y = c.out().as<double>();
  Product(rows, out, in, Rows(c.in(0).as<double>(), in), Columns(c.in(1).as<double>(), in), y);
  if (!c.has(2)) return;
  for (int64_t i = 0; i < rows * out; ++i) y[i] += c.in(2).as<double>()[i % out];
}

void LinearDx(const KernelCall& c) {
  const int64_t out = c.in(1).shape[0], in = c.in(1).shape[1];
  Product(c.in(0).shape[0], in, out, Rows(c.in(0).as<double>(), out),
          Rows(c.in(1).as<double>(), in), c.out().as<double>());
}

void Pack(const KernelCall& c) {
  const int64_t out = c.in(0).shape[0], in = c.in(0).shape[1];
  double* packed = c.out().as<double>();
  std::fill_n(packed, c.out().elements(), 0.0);
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i)
      packed[PackedIndex(in, o, i)] = c.in(0).as<double>()[o * in + i];
  }
}

double Activate(std::string_view name, double x) {
  if (name == "relu") return x > 0 ? x : 0;
  if (name == "gelu_erf") return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
  if (name == "gelu_tanh") {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  if (name == "silu") return x / (1 + std::exp(-x));
  if (name == "tanh") return std::tanh(x);
  return x;
}

void FusedLinear(const KernelCall& c) {
  const auto& a = c.attr<FusedLinearAttrs>();
  const View &x = c.in(0), &w = c.in(1);
  const bool packed = w.shape.rank() == 1;
  const double* weight = w.as<double>();
  const auto element = [&](int64_t o, int64_t i) {
    return weight[packed ? PackedIndex(a.in, o, i) : o * a.in + i];
  };
  const int64_t n = a.columns(), rows = x.elements() / a.features();
  std::vector<double> y(static_cast<size_t>(rows * n));  // base may stand where the result goes
  Product(
      rows, n, a.features(), Rows(x.as<double>(), a.features()),
      [&](int64_t p, int64_t j) { return a.backward ? element(p, j) : element(j, p); }, y.data());
  for (int64_t i = 0; i < rows * n; ++i) {
    double v = a.scale * y[static_cast<size_t>(i)];
    if (c.has(2)) v += c.in(2).as<double>()[i % n];
    if (c.has(3)) v += c.in(3).as<double>()[i];
    c.out().as<double>()[i] = Activate(a.activation, v);
  }
}

constexpr KernelEntry kKernels[] = {{"matmul", Matmul},
                                    {"linear", Linear},
                                    {"linear_dx", LinearDx},
                                    {"pack", Pack},
                                    {"fused_linear", FusedLinear}};

}  // namespace

Family matmul_kernels() { return kKernels; }

}  // namespace graft::ref
