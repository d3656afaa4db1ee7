// The ops by family; one file defines each. Adding an op: its OpDef here, its kernels in
// kernels/ref and kernels/cpu, its cases in tests.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "autograd/op.h"

namespace graft::ops {

using Family = std::span<const OpDef>;

// OpDef::flops of ops that only move bytes.
inline double no_flops(std::span<const Type>, std::span<const Type>, const Attrs&) { return 0; }

// OpDef::infer of two floating-point operands of one type and shape, which is the result's.
inline std::vector<Type> infer_pair(const InferCall& c) {
  c.expect_arity(2, 2);
  c.expect_float(0);
  c.expect(c.in(0) == c.in(1), "both operands must have one type and shape");
  return {c.in(0)};
}

Family leaf_ops();
Family elementwise_ops();
Family reduce_ops();
Family shape_ops();
Family index_ops();
Family matmul_ops();
Family norm_ops();
Family loss_ops();
Family attention_ops();
Family optimizer_ops();
Family subspace_ops();

inline std::array<Family, 11> families() {
  return {leaf_ops(),      elementwise_ops(), reduce_ops(),  shape_ops(),
          index_ops(),     matmul_ops(),      norm_ops(),    loss_ops(),
          attention_ops(), optimizer_ops(),   subspace_ops()};
}

}  // namespace graft::ops
