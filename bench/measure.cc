#include "bench/measure.h"

#include <time.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "core/parallel.h"
#include "core/random.h"
#include "hwy/highway.h"
#include "kernels/ceiling.h"

namespace graft::bench {
namespace {

double seconds_of(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

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

void fill(Tensor& t, uint64_t seed) {
  const RandomStream random(seed, 0);
  uint64_t at = 0;
  for (float& x : t.span<float>()) x = random.uniform(at++) - 0.5f;
}

double now(int threads) {
  return seconds_of(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC);
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
      const double top = multiply_add_ceiling(threads);
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
