// A chain of segments under a budget: what each keeps for its backward, and which run forward again
// from the input of an earlier one. The optimum over all such plans (Griewank & Walther 2000,
// "Algorithm 799: revolve"; Beaumont et al. 2019, "Optimal checkpointing for heterogeneous
// chains"), where a segment may keep more than its input or less.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace graft {

// One way to have what the backward of a segment reads. Bytes; the cost is that of what runs again.
struct KeepOption {
  int64_t kept = 0;           // from its forward to its backward
  int64_t forward_peak = 0;   // while its forward runs, what it keeps and its input included
  int64_t backward_peak = 0;  // while its backward runs, what was kept included
  double cost = 0;
};

struct ChainLink {
  int64_t input = 0;         // what it reads of the link before
  int64_t forward_peak = 0;  // when nothing is kept
  int64_t left = 0;          // what its backward leaves behind (gradients), less what it takes away
  double forward_cost = 0;   // of its output, computed from its input
  KeepOption from_input;     // its backward when its input is all there is
  std::vector<KeepOption> options;
};

class ChainPlanner {
 public:
  // chain[i]: which of the links stands there. `most`: no budget beyond these bytes will be asked.
  ChainPlanner(std::vector<ChainLink> links, std::vector<int32_t> chain, int64_t most);

  // Of what runs again under a budget; infinite where the budget is too small.
  double cost(int64_t budget) const { return first_[0][static_cast<size_t>(clamped(budget))]; }
  // Bytes between two budgets that are told apart.
  double step() const { return slot_; }

  // A piece of the chain, from `first` up to but not including `end`.
  struct Stretch {
    int32_t first = 0, end = 0;
    int32_t option = -1;  // of the one link, or -1: the input of the first is kept, no more
    int64_t slots = 0;    // -1: memory, in steps, for its backward, its input included
  };
  // What the forward pass keeps. The budget must have a finite cost.
  std::vector<Stretch> first_pass(int64_t budget) const;
  // How the backward of a stretch of several links goes on from the input of its first: with the
  // first link run again under an option and the rest, or run up to the first of the second
  // stretch. The backward of the last stretch comes first.
  std::vector<Stretch> split(const Stretch& stretch) const;

 private:
  struct Slots {  // a link in steps of memory
    int64_t input, forward_peak, left;
    struct Option {
      int64_t kept, forward_peak, backward_peak;
      float cost;
    };
    std::vector<Option> options;
    Option from_input;
    float forward_cost;
  };
  size_t length() const { return chain_.size(); }
  const Slots& link(size_t i) const { return links_[static_cast<size_t>(chain_[i])]; }
  int64_t to_slots(int64_t bytes) const;
  int64_t clamped(int64_t budget) const;
  // Row of again_ for the links first..last.
  const std::vector<float>& again(size_t first, size_t last) const {
    return again_[static_cast<size_t>(row_[first][last - first])];
  }
  void name_rows();
  void solve_again(size_t first, size_t last, std::vector<float>& best) const;
  void solve_first();

  // Whether the forward of links has been run before and is paid for.
  enum class Pass : uint8_t { first, again };
  // A way to begin with the links first..end-1, and the rows that tell what the rest costs: those
  // above, with `held` steps less, and where only the input of `first` is held those below, with
  // what is `left` from above less.
  struct Choice {
    int32_t option = -1;
    size_t next = 0;  // the first link above
    const std::vector<float>* above = nullptr;
    const std::vector<float>* below = nullptr;
    int64_t held = 0, left = 0, least = 0;  // no fewer steps than `least`
    float cost = 0;
    int64_t lowest() const { return std::max({least, held, left, int64_t{0}}); }
    // With at least lowest() steps.
    float at(int64_t steps) const { return cost_at(above->data(), below->data(), steps); }
    // The same for loops: rows by their first entries.
    float cost_at(const float* upper, const float* lower, int64_t steps) const {
      return upper[steps - held] + lower[steps - left] + cost;
    }
  };
  template <typename F>
  void for_choices(size_t first, size_t end, Pass pass, F f) const;
  void take_best(size_t first, size_t end, Pass pass, std::vector<float>& best) const;
  // The first that costs `target`.
  Choice choice(size_t first, size_t end, Pass pass, int64_t steps, float target) const;
  // What the backward of first..end-1 leaves behind for that of what stands below; where it takes
  // more away, that is not counted on.
  int64_t left_between(size_t first, size_t end) const {
    return std::max<int64_t>(0, left_[first] - left_[end]);
  }

  std::vector<Slots> links_;
  std::vector<int32_t> chain_;
  double slot_ = 1;
  int64_t most_ = 0;                       // steps
  std::vector<std::vector<int32_t>> row_;  // [first][last - first]: equal pieces share a row
  std::vector<float> nothing_;             // [memory]: zeros
  std::vector<std::vector<float>> again_;  // [row][memory]: least cost of its backward
  std::vector<std::vector<float>>
      first_;                  // [link][memory]: of all from this link on, first run free
  std::vector<int64_t> left_;  // [i]: what backward of i.. leaves behind
};

}  // namespace graft
