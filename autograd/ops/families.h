// The ops by family; one file defines each. Adding an op: its OpDef here, its kernels in
// kernels/ref and kernels/cpu, its cases in tests.
#pragma once

#include <array>
#include <span>

#include "autograd/op.h"

namespace graft::ops {

using Family = std::span<const OpDef>;

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

inline std::array<Family, 10> families() {
  return {leaf_ops(),   elementwise_ops(), reduce_ops(), shape_ops(),     index_ops(),
          matmul_ops(), norm_ops(),        loss_ops(),   attention_ops(), optimizer_ops()};
}

}  // namespace graft::ops
