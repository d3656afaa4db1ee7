// The CPU kernels by family: Highway SIMD, the target chosen at run time; plain code owns the
// threads.
#pragma once

#include <array>

#include "kernels/kernel.h"

namespace graft::cpu {

using Family = std::span<const KernelEntry>;

Family elementwise_kernels();
Family reduce_kernels();
Family shape_kernels();
Family index_kernels();
Family matmul_kernels();
Family norm_kernels();
Family loss_kernels();
Family head_loss_kernels();
Family attention_kernels();
Family optimizer_kernels();
Family adam_kernels();
Family subspace_kernels();
Family bits_kernels();
Family random_kernels();  // of several families: what draws

inline std::array<Family, 14> families() {
  return {elementwise_kernels(), reduce_kernels(),    shape_kernels(), index_kernels(),
          matmul_kernels(),      norm_kernels(),      loss_kernels(),  head_loss_kernels(),
          attention_kernels(),   optimizer_kernels(), adam_kernels(),  subspace_kernels(),
          bits_kernels(),        random_kernels()};
}

}  // namespace graft::cpu
