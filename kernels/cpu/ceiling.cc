// The ceiling of matrix products, per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/ceiling.cc"
#include "kernels/ceiling.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace tile = gemm;

// `repeats` times the sum over k of a column of a times a row of b, in registers. Returns the
// multiply-adds of one k.
int64_t MultiplyAdds(const float* a, const float* b, int64_t k, int64_t repeats, float* out) {
  tile::Accumulators<tile::kRows> sums;
  tile::ClearTile(sums);
  for (int64_t r = 0; r < repeats; ++r) {
#pragma GCC unroll 1
    for (int64_t i = 0; i < k; i += 2) {
      tile::Step(a + i * tile::kRows, b + i * tile::kColumns, sums);
      tile::Step(a + (i + 1) * tile::kRows, b + (i + 1) * tile::kColumns, sums);
    }
  }
  tile::StoreTile(sums, out, tile::kColumns);
  return int64_t{tile::kRows} * tile::kColumns;
}

// The sum of x[0..n), in eight chains: one waits for its additions instead of for memory.
float ReadSum(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  int64_t i = 0;
  for (; i + 8 * lanes <= n; i += 8 * lanes) {
    const float* at = x + i;
    s0 = hn::Add(s0, hn::LoadU(d, at));
    s1 = hn::Add(s1, hn::LoadU(d, at + lanes));
    s2 = hn::Add(s2, hn::LoadU(d, at + 2 * lanes));
    s3 = hn::Add(s3, hn::LoadU(d, at + 3 * lanes));
    s4 = hn::Add(s4, hn::LoadU(d, at + 4 * lanes));
    s5 = hn::Add(s5, hn::LoadU(d, at + 5 * lanes));
    s6 = hn::Add(s6, hn::LoadU(d, at + 6 * lanes));
    s7 = hn::Add(s7, hn::LoadU(d, at + 7 * lanes));
  }
  const auto low = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
  const auto high = hn::Add(hn::Add(s4, s5), hn::Add(s6, s7));
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
  for (; i < n; ++i) sum += x[i];
  return sum;
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace cpu {
HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(ReadSum);

namespace {

auto BestMultiplyAdds() { return GRAFT_DISPATCH(MultiplyAdds); }
auto BestReadSum() { return GRAFT_DISPATCH(ReadSum); }

// Operands of 128 k: 14 x 128 and 128 x 32 floats are 23 KB, in any L1.
constexpr int64_t kDepth = 128;

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace
}  // namespace cpu

double multiply_add_ceiling(int threads, double seconds) {
  struct Operands {
    alignas(64) float a[16 * cpu::kDepth], b[32 * cpu::kDepth], out[16 * 32];
    double rate;
  };
  static std::vector<Operands> operands(static_cast<size_t>(std::thread::hardware_concurrency()));
  threads = std::min(threads, static_cast<int>(operands.size()));
  const auto run = cpu::BestMultiplyAdds();
  constexpr int64_t kRepeats = 400;
  const int before = num_threads();
  set_num_threads(threads);
  // Every thread at once, each by the processor time that it got.
  parallel_for(threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      Operands& o = operands[static_cast<size_t>(t)];
      o.rate = 0;
      const double start = cpu::thread_seconds();
      for (double at = start; at - start < seconds;) {
        const int64_t per_k = run(o.a, o.b, cpu::kDepth, kRepeats, o.out);
        const double stop = cpu::thread_seconds();
        o.rate = std::max(o.rate,
                          2.0 * static_cast<double>(per_k * cpu::kDepth * kRepeats) / (stop - at));
        at = stop;
      }
    }
  });
  set_num_threads(before);
  double sum = 0;
  for (int t = 0; t < threads; ++t) sum += operands[static_cast<size_t>(t)].rate;
  return sum;
}

float read_once(std::span<const float> memory, int threads) {
  const auto run = cpu::BestReadSum();
  const auto n = static_cast<int64_t>(memory.size());
  std::atomic<float> sum = 0;
  const int before = num_threads();
  set_num_threads(threads);
  parallel_for(threads, 1, [&](int64_t begin, int64_t end) {
    sum.fetch_add(
        run(memory.data() + n * begin / threads, n * end / threads - n * begin / threads));
  });
  set_num_threads(before);
  return sum;
}

}  // namespace graft
#endif  // HWY_ONCE
