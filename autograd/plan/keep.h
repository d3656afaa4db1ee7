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
// equals those closest to what is wanted, so that the fewest runs come again. Prices may change
// between two calls of solve().
class LeastToKeep {
 public:
  explicit LeastToKeep(const KeepProblem& problem);
  void set_price_of_run(size_t run, int64_t price) { network_.set_capacity(run_[run], price); }
  void set_price_of_value(size_t v, int64_t price) { network_.set_capacity(value_[v], price); }
  std::vector<bool> solve();  // [value]

 private:
  FlowNetwork network_;
  std::vector<int32_t> run_, value_;  // edges
};

}  // namespace graft
