// Updates in few numbers on the CPU: the Walsh-Hadamard transform with Highway, everything else is
// bound by memory.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/subspace.cc"
#include "kernels/subspace.h"

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// (a, b) := (a + b, a - b) for n pairs; n is a power of two.
void Butterfly(float* a, float* b, int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto x = hn::LoadU(d, a + i), y = hn::LoadU(d, b + i);
    hn::StoreU(hn::Add(x, y), d, a + i);
    hn::StoreU(hn::Sub(x, y), d, b + i);
  }
  for (; i < n; ++i) {
    const float x = a[i], y = b[i];
    a[i] = x + y;
    b[i] = x - y;
  }
}

// Levels [from, to) of the transform of n entries.
void Levels(float* x, int64_t n, int64_t from, int64_t to) {
  for (int64_t h = from; h < to; h *= 2) {
    for (int64_t i = 0; i < n; i += 2 * h) Butterfly(x + i, x + i + h, h);
  }
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(Butterfly);
HWY_EXPORT(Levels);

namespace {

// The low levels of a transform are done block by block in the first-level cache, the high ones
// sweep over memory.
constexpr int64_t kBlock = 8192;

void Hadamard(float* x, int64_t n) {
  const auto levels = GRAFT_DISPATCH(Levels);
  const auto butterfly = GRAFT_DISPATCH(Butterfly);
  const int64_t block = std::min(n, kBlock);
  parallel_for(n / block, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) levels(x + i * block, block, 1, block);
  });
  for (int64_t h = block; h < n; h *= 2) {
    parallel_for(n / 2 / block, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* a = x + i * block / h * 2 * h + i * block % h;
        butterfly(a, a + h, block);
      }
    });
  }
}

constexpr KernelEntry kKernels[] = {
    {"sparse_add", subspace::SparseAdd<float>},
    {"sparse_gather", subspace::SparseGather<float>},
    {"fastfood_draw", subspace::FastfoodDraw<float>},
    {"fastfood", subspace::Fastfood<float, Hadamard>, subspace::FastfoodWorkspace<float>},
    {"fastfood_adjoint", subspace::FastfoodAdjoint<float, Hadamard>,
     subspace::FastfoodWorkspace<float>},
};

}  // namespace

Family subspace_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
