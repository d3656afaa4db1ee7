// How kernels that draw random numbers cut their work.
#pragma once

#include <cstddef>

namespace graft::cpu {

// Numbers drawn together: 16 Philox blocks, a whole number of vectors on every instruction set.
inline constexpr size_t kDrawGroup = 64;

}  // namespace graft::cpu
