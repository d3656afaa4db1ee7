// Updates in few numbers, and the gates of diff pruning, over double.
#include "kernels/subspace.h"

#include "kernels/ref/families.h"

namespace graft::ref {
namespace {

// The unnormalized Walsh-Hadamard transform of 2^n entries, in place.
void Hadamard(double* x, int64_t n) {
  for (int64_t h = 1; h < n; h *= 2) {
    for (int64_t i = 0; i < n; i += 2 * h) {
      for (int64_t j = i; j < i + h; ++j) {
        const double a = x[j], b = x[j + h];
        x[j] = a + b;
        x[j + h] = a - b;
      }
    }
  }
}

// A hard-concrete gate and its slope at alpha. u = 1/2 where nothing is drawn.
struct Gate {
  double lower, upper;

  double stretched(double alpha, double u, double& s) const {
    s = 1 / (1 + std::exp(-(std::log(u) - std::log1p(-u) + alpha)));
    return s * (upper - lower) + lower;
  }
  double value(double alpha, double u) const {
    double s = 0;
    return std::clamp(stretched(alpha, u, s), 0.0, 1.0);
  }
  double slope(double alpha, double u) const {
    double s = 0;
    const double z = stretched(alpha, u, s);
    return z > 0 && z < 1 ? (upper - lower) * s * (1 - s) : 0;
  }
};

// f(i, u) for every element: u in [1e-4, 1 - 1e-4] drawn from (seed, step) in rng, or 1/2 without.
template <typename F>
void EachDraw(const KernelCall& c, const View* rng, F f) {
  const int64_t n = c.out().elements();
  const auto stream = static_cast<uint64_t>(c.attr<HardConcreteAttrs>().stream);
  const RandomStream random(rng ? static_cast<uint64_t>(rng->as<int64_t>()[0]) : 0, stream,
                            rng ? static_cast<uint64_t>(rng->as<int64_t>()[1]) : 0);
  parallel_for((n + 3) / 4, subspace::kGrain / 16, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const PhiloxBlock bits = rng ? random.block(static_cast<uint64_t>(block)) : PhiloxBlock{};
      for (int64_t i = 4 * block; i < std::min(4 * block + 4, n); ++i) {
        const double uniform = static_cast<double>(bits[static_cast<size_t>(i % 4)] >> 8) * 0x1p-24;
        f(i, rng ? 1e-4 + (1 - 2e-4) * uniform : 0.5);
      }
    }
  });
}

void HardConcrete(const KernelCall& c) {  // alpha, rng -> z
  const auto& a = c.attr<HardConcreteAttrs>();
  const Gate gate{a.lower, a.upper};
  const double* alpha = c.in(0).as<double>();
  double* z = c.out().as<double>();
  EachDraw(c, c.has(1) ? &c.in(1) : nullptr,
           [&](int64_t i, double u) { z[i] = gate.value(alpha[i], u); });
}

void HardConcreteBackward(const KernelCall& c) {  // dz, alpha, rng -> dalpha
  const auto& a = c.attr<HardConcreteAttrs>();
  const Gate gate{a.lower, a.upper};
  const double *dz = c.in(0).as<double>(), *alpha = c.in(1).as<double>();
  double* out = c.out().as<double>();
  EachDraw(c, c.has(2) ? &c.in(2) : nullptr,
           [&](int64_t i, double u) { out[i] = dz[i] * gate.slope(alpha[i], u); });
}

constexpr KernelEntry kKernels[] = {
    {"sparse_add", subspace::SparseAdd<double>},
    {"sparse_gather", subspace::SparseGather<double>},
    {"hard_concrete", HardConcrete},
    {"hard_concrete_backward", HardConcreteBackward},
    {"fastfood_draw", subspace::FastfoodDraw<double>},
    {"fastfood", subspace::Fastfood<double, Hadamard>, subspace::FastfoodWorkspace<double>},
    {"fastfood_adjoint", subspace::FastfoodAdjoint<double, Hadamard>,
     subspace::FastfoodWorkspace<double>},
};

}  // namespace

Family subspace_kernels() { return kKernels; }

}  // namespace graft::ref
