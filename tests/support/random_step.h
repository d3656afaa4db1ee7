// A training step around a random model, and the dice that both are made with.
#pragma once

#include <cstdint>

#include "autograd/graph.h"
#include "core/random.h"

namespace graft::testing {

class Dice {
 public:
  explicit Dice(uint64_t seed) : stream_(seed, hash_name("random_graph")) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(stream_.bits(next_++)) % n; }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool one_in(int64_t n) { return below(n) == 0; }

 private:
  RandomStream stream_;
  uint64_t next_ = 0;
};

// One or two micro-batches, a loss over all results, an optimizer, and readers of old values and
// new.
Graph random_step(const Graph& model, uint64_t seed);

}  // namespace graft::testing
