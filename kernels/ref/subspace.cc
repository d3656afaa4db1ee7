// Updates in few numbers over double.
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

constexpr KernelEntry kKernels[] = {
    {"sparse_add", subspace::SparseAdd<double>},
    {"sparse_gather", subspace::SparseGather<double>},
    {"hard_concrete", subspace::HardConcrete<double>},
    {"hard_concrete_backward", subspace::HardConcreteBackward<double>},
    {"fastfood_draw", subspace::FastfoodDraw<double>},
    {"fastfood", subspace::Fastfood<double, Hadamard>, subspace::FastfoodWorkspace<double>},
    {"fastfood_adjoint", subspace::FastfoodAdjoint<double, Hadamard>,
     subspace::FastfoodWorkspace<double>},
};

}  // namespace

Family subspace_kernels() { return kKernels; }

}  // namespace graft::ref
