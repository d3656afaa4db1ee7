// Numbers for tests that any will do for.
#pragma once

#include <cstdint>

#include "core/random.h"
#include "core/tensor.h"

namespace graft::testing {

// Uniform in [-1, 1), the same for the same seed.
inline Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Tensor t(DType::f32, shape);
  const RandomStream stream(seed, 0);
  for (int64_t i = 0; i < t.elements(); ++i)
    t.data<float>()[i] = 2 * stream.uniform(static_cast<uint64_t>(i)) - 1;
  return t;
}

}  // namespace graft::testing
