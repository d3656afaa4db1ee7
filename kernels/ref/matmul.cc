// Matrix products in double: three loops.
#include "kernels/broadcast.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {

// c[i, j] = sum_k a(i, k) b(k, j), each operand given by its two strides.
void Product(int64_t m, int64_t n, int64_t k, const double* a, int64_t ai, int64_t ak,
             const double* b, int64_t bk, int64_t bj, double* c) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p) sum += a[i * ai + p * ak] * b[p * bk + j * bj];
      c[i * n + j] = sum;
    }
  }
}

void Matmul(const KernelCall& c) {
  const auto& t = c.attr<MatmulAttrs>();
  const Shape &x = c.in(0).shape, &y = c.in(1).shape, &z = c.out().shape;
  const int64_t m = z[-2], n = z[-1], k = x[t.tx ? -2 : -1];
  const Shape batch = z.batch();
  const BroadcastIndex ix(x.batch(), batch), iy(y.batch(), batch);
  for (int64_t i = 0, count = batch.elements(); i < count; ++i) {
    Product(m, n, k, c.in(0).as<double>() + ix(i) * m * k, t.tx ? 1 : k, t.tx ? m : 1,
            c.in(1).as<double>() + iy(i) * k * n, t.ty ? 1 : n, t.ty ? k : 1,
            c.out().as<double>() + i * m * n);
  }
}

void Linear(const KernelCall& c) {
  const int64_t out = c.in(1).shape[0], in = c.in(1).shape[1],
                n = c.in(0).shape.product(0, c.in(0).shape.rank() - 1);
  double* y = c.out().as<double>();
  Product(n, out, in, c.in(0).as<double>(), in, 1, c.in(1).as<double>(), 1, in, y);
  if (!c.has(2)) return;
  for (int64_t i = 0; i < n * out; ++i) y[i] += c.in(2).as<double>()[i % out];
}

void LinearDx(const KernelCall& c) {
  const int64_t out = c.in(1).shape[0], in = c.in(1).shape[1];
  Product(c.in(0).shape[0], in, out, c.in(0).as<double>(), out, 1, c.in(1).as<double>(), in, 1,
          c.out().as<double>());
}

constexpr KernelEntry kKernels[] = {
    {"matmul", Matmul}, {"linear", Linear}, {"linear_dx", LinearDx}};

}  // namespace

Family matmul_kernels() { return kKernels; }

}  // namespace graft::ref
