// The ceiling per instruction set, and the rounds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/measure.cc"
#include "bench/measure.h"

#include <time.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "core/parallel.h"
#include "core/tensor.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::bench::HWY_NAMESPACE {
namespace tile = cpu::HWY_NAMESPACE::gemm;

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

}  // namespace graft::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::bench {
HWY_EXPORT(MultiplyAdds);

namespace {

double seconds_of(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Of the wall; on one thread of the processor instead, which does not count what others run in
// between.
double now(int threads) {
  return seconds_of(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC);
}

// Operands of 128 k: 14 x 128 and 128 x 32 floats are 23 KB, in any L1.
constexpr int64_t kDepth = 128;

}  // namespace

double ceiling(int threads, double seconds) {
  struct Operands {
    alignas(64) float a[16 * kDepth], b[32 * kDepth], out[16 * 32];
    double rate;
  };
  static std::vector<Operands> operands(static_cast<size_t>(std::thread::hardware_concurrency()));
  threads = std::min(threads, static_cast<int>(operands.size()));
  const auto run = GRAFT_DISPATCH(MultiplyAdds);
  constexpr int64_t kRepeats = 400;
  const int before = num_threads();
  set_num_threads(threads);
  // Every thread at once, each by the processor time that it got.
  parallel_for(threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      Operands& o = operands[static_cast<size_t>(t)];
      o.rate = 0;
      const double start = seconds_of(CLOCK_THREAD_CPUTIME_ID);
      for (double at = start; at - start < seconds;) {
        const int64_t per_k = run(o.a, o.b, kDepth, kRepeats, o.out);
        const double stop = seconds_of(CLOCK_THREAD_CPUTIME_ID);
        o.rate =
            std::max(o.rate, 2.0 * static_cast<double>(per_k * kDepth * kRepeats) / (stop - at));
        at = stop;
      }
    }
  });
  set_num_threads(before);
  double sum = 0;
  for (int t = 0; t < threads; ++t) sum += operands[static_cast<size_t>(t)].rate;
  return sum;
}

std::string machine() {
  std::string name = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      name = line.substr(line.find(':') + 2);
      break;
    }
  }
  const int64_t targets = hwy::SupportedTargets();
  const int64_t best = targets & -targets;  // better targets have lower bits
  return name + ", " + hwy::TargetName(best) + ", " +
         std::to_string(std::thread::hardware_concurrency()) + " cores";
}

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::ranges::sort(x);
  return x[x.size() / 2];
}

std::vector<Result> interleaved(const std::vector<Candidate>& candidates, int threads, int rounds,
                                double least_seconds) {
  const int before = num_threads();
  set_num_threads(threads);
  std::vector<int64_t> repeats;
  for (const Candidate& c : candidates) {  // warms up, too
    c.run();
    const double start = now(threads);
    c.run();
    repeats.push_back(1 + static_cast<int64_t>(least_seconds / (now(threads) - start)));
  }
  std::vector<std::vector<double>> seconds(candidates.size()), shares(candidates.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      const double top = ceiling(threads);
      const double start = now(threads);
      for (int64_t r = 0; r < repeats[i]; ++r) candidates[i].run();
      const double each = (now(threads) - start) / static_cast<double>(repeats[i]);
      seconds[i].push_back(each);
      shares[i].push_back(candidates[i].flops / each / top);
    }
  }
  set_num_threads(before);
  std::vector<Result> results;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const double s = median(seconds[i]);
    results.push_back({s, candidates[i].flops / s, median(shares[i]), std::ranges::max(shares[i])});
  }
  return results;
}

}  // namespace graft::bench
#endif  // HWY_ONCE
