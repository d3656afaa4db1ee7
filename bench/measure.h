// Measuring on a machine that others use too: candidates take turns, and each is compared with the
// machine's own ceiling a moment before. Shares survive a changing clock; seconds do not. One
// thread is timed by the processor time that it got, several by the wall.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace graft::bench {

// Name of the processor, instruction set that the kernels chose, cores.
std::string machine();

double median(std::vector<double> x);

// Numbers from -1/2 to 1/2.
void fill(Tensor& t, uint64_t seed);

// Seconds of the wall; on one thread of the processor instead, which does not count what others run
// in between.
double now(int threads);

struct Candidate {
  std::string name;
  double flops = 0;
  std::function<void()> run;
};

struct Result {
  double seconds = 0;          // median of one run
  double rate = 0;             // median of operations per second
  double share = 0, best = 0;  // of the ceiling: median and largest over the rounds
};

// Runs the candidates in turn for `rounds` rounds with `threads` threads; each turn lasts at least
// `least_seconds`.
std::vector<Result> interleaved(const std::vector<Candidate>& candidates, int threads, int rounds,
                                double least_seconds = 0.01);

}  // namespace graft::bench
