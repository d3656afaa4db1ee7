// What to keep of a computation so that some of its values can be had later: a minimum cut.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/plan/min_cut.h"

namespace graft {

// Values and runs by number. A value that no run writes is there at the start only.
struct KeepProblem {
  static constexpr int64_t kNever = FlowNetwork::kInfinite;
  struct Run {
    std::vector<int32_t> reads, writes;
    int64_t price = 0;  // of running again; kNever: it must not
  };
  std::vector<int64_t> price;      // of keeping each value
  std::vector<Run> runs;           // in order
  std::vector<int32_t> wanted;     // values
  std::vector<int32_t> must_keep;  // of these, what running again is no way to
};

// The values to keep, so that what is kept and what runs again cost the least together; among
// equals those closest to what is wanted, so that the fewest runs come again.
std::vector<bool> least_to_keep(const KeepProblem& problem);

}  // namespace graft
