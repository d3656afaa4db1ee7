// What one instruction set gives to the drivers in attention.cc: small products in registers, and
// what happens to rows of scores between them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace graft::cpu {

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
  void (*multiply_row)(float* x, const float* y, size_t n);
  void (*scale_row)(float* x, size_t n, float factor);
};

// Of the best instruction set that this CPU supports (or that a test allows).
const AttentionKernels& BestAttentionKernels();

}  // namespace graft::cpu
