// What one instruction set gives to the drivers in attention.cc: small products in registers, and
// what happens to rows of scores between them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/random.h"

namespace graft::cpu {

// What dropout does to n entries, the first of which has the number `first` of the random stream; p
// of them are dropped.
struct DropRange {
  const RandomStream& random;
  uint64_t first;
  float p;
  float* x;
  size_t n;
};

// C [m, n] = alpha A B (+ C): a(i, k) at a[i * ai + k * ak], b(k, j) at b[k * ldb + j].
struct SmallProduct {
  int64_t m, n, k;
  const float* a;
  int64_t ai, ak;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
  float alpha;
  bool accumulate;
};

struct AttentionKernels {
  void (*multiply)(const SmallProduct&);
  // x := cap tanh(x), and slope := 1 - tanh^2 where it is wanted.
  void (*cap_row)(float* x, size_t n, float cap, float* slope);
  // Scores where `visible` is zero become -inf.
  void (*hide_keys)(float* x, const float* visible, size_t n);
  // Scores to unnormalized probabilities; returns what normalizes them. A row without a visible key
  // becomes zeros.
  float (*exp_row)(float* x, size_t n);
  // p := factor p; ds := p (dp - sum p dp). The sum is taken over what is subtracted from, so a
  // lone key gets exactly zero.
  void (*backward_row)(float* p, float* dp, size_t n, float factor);
  // Dropped entries become zero.
  void (*drop)(const DropRange&);
  // Dropped entries of what has no negative ones get a sign.
  void (*mark_dropped)(const DropRange&);
  // backward_row for marked p: dp is that of kept entries times `keep`, and p comes out as what was
  // multiplied with V.
  void (*backward_marked_row)(float* p, float* dp, size_t n, float factor, float keep);
  void (*multiply_row)(float* x, const float* y, size_t n);
  void (*scale_row)(float* x, size_t n, float factor);
};

// Of the best instruction set that this CPU supports (or that a test allows).
const AttentionKernels& BestAttentionKernels();

}  // namespace graft::cpu
