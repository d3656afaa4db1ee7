// The random numbers of a node that draws some.
#pragma once

#include "core/random.h"
#include "kernels/kernel.h"

namespace graft {

// rng: i64[2], seed and step.
inline RandomStream stream_of(const View& rng, int64_t stream) {
  const int64_t* at = rng.as<int64_t>();
  return {static_cast<uint64_t>(at[0]), static_cast<uint64_t>(stream),
          static_cast<uint64_t>(at[1])};
}

}  // namespace graft
