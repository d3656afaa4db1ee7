#include "autograd/plan/chain.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace graft {
namespace {

constexpr float kNever = std::numeric_limits<float>::infinity();
// Memory is counted in so many steps at most, all tables have so many entries.
constexpr int64_t kMostSteps = 3000, kMostEntries = 8'000'000;

}  // namespace

ChainPlanner::ChainPlanner(std::vector<ChainLink> links, std::vector<int32_t> chain, int64_t most)
    : chain_(std::move(chain)) {
  name_rows();
  const auto rows = static_cast<int64_t>(again_.size() + length() + 1);
  const int64_t steps = std::clamp<int64_t>(kMostEntries / rows, 100, kMostSteps);
  slot_ = std::max(1.0, static_cast<double>(most) / static_cast<double>(steps));
  // What is kept most often should be a whole number of steps.
  std::map<int64_t, int> inputs;
  for (const int32_t i : chain_) ++inputs[links[static_cast<size_t>(i)].input];
  const auto usual = std::ranges::max_element(inputs, {}, [](const auto& in) { return in.second; });
  if (usual != inputs.end() && static_cast<double>(usual->first) > slot_)
    slot_ =
        static_cast<double>(usual->first) / std::floor(static_cast<double>(usual->first) / slot_);
  most_ = static_cast<int64_t>(static_cast<double>(most) / slot_);

  const auto in_slots = [&](const KeepOption& o) {
    return Slots::Option{to_slots(o.kept), to_slots(o.forward_peak), to_slots(o.backward_peak),
                         static_cast<float>(o.cost)};
  };
  for (const ChainLink& l : links) {
    Slots s{to_slots(l.input),      to_slots(l.forward_peak),          to_slots(l.left), {},
            in_slots(l.from_input), static_cast<float>(l.forward_cost)};
    for (const KeepOption& o : l.options) s.options.push_back(in_slots(o));
    links_.push_back(std::move(s));
  }
  nothing_.assign(static_cast<size_t>(most_) + 1, 0);
  left_.assign(length() + 1, 0);
  for (size_t i = length(); i-- > 0;) left_[i] = left_[i + 1] + link(i).left;

  std::vector<bool> solved(again_.size(), false);
  for (size_t links_in = 1; links_in <= length(); ++links_in) {
    for (size_t first = 0; first + links_in <= length(); ++first) {
      const auto row = static_cast<size_t>(row_[first][links_in - 1]);
      if (!solved[row]) solve_again(first, first + links_in - 1, again_[row]);
      solved[row] = true;
    }
  }
  solve_first();
}

int64_t ChainPlanner::to_slots(int64_t bytes) const {
  return std::llround(static_cast<double>(bytes) / slot_);
}

int64_t ChainPlanner::clamped(int64_t budget) const {
  return std::clamp<int64_t>(static_cast<int64_t>(static_cast<double>(budget) / slot_), 0, most_);
}

void ChainPlanner::name_rows() {
  std::map<std::pair<int32_t, int32_t>, int32_t> names;  // of a shorter piece and one link more
  row_.resize(length());
  for (size_t first = 0; first < length(); ++first) {
    int32_t row = -1;
    for (size_t last = first; last < length(); ++last) {
      row =
          names.try_emplace({row, chain_[last]}, static_cast<int32_t>(names.size())).first->second;
      row_[first].push_back(row);
    }
  }
  again_.resize(names.size());
}

template <typename F>
void ChainPlanner::for_choices(size_t first, size_t end, Pass pass, F f) const {
  const Slots& l = link(first);
  const bool again_pass = pass == Pass::again;
  const auto above = [&](size_t next) {
    return again_pass ? &again(next, end - 1) : &first_[next];
  };
  const auto paid = [&](float cost) { return again_pass ? cost : 0.0F; };
  for (size_t k = 0; k < l.options.size(); ++k) {
    const Slots::Option& o = l.options[k];
    f(Choice{.option = static_cast<int32_t>(k),
             .next = first + 1,
             .above = above(first + 1),
             .below = &nothing_,
             .held = o.kept,
             .least = std::max(o.forward_peak, o.backward_peak + left_between(first + 1, end)),
             .cost = paid(l.forward_cost) + o.cost});
  }
  // Of a forward that passes over the links below `next`.
  float passing = 0;
  int64_t peak = 0;
  for (size_t next = first + 1; next < end + (again_pass ? 0 : 1); ++next) {
    passing += paid(link(next - 1).forward_cost);
    peak = std::max(peak, link(next - 1).forward_peak + (next - 1 > first ? l.input : 0));
    f(Choice{.next = next,
             .above = above(next),
             .below = &again(first, next - 1),
             .held = l.input,
             .left = left_between(next, end),
             .least = peak,
             .cost = passing});
  }
}

void ChainPlanner::take_best(size_t first, size_t end, Pass pass, std::vector<float>& best) const {
  for_choices(first, end, pass, [&](const Choice& c) {
    const Choice here = c;  // not what the loop writes to
    const float *const upper = here.above->data(), *const lower = here.below->data();
    float* const to = best.data();
    for (int64_t m = here.lowest(); m <= most_; ++m)
      to[m] = std::min(to[m], here.cost_at(upper, lower, m));
  });
}

ChainPlanner::Choice ChainPlanner::choice(size_t first, size_t end, Pass pass, int64_t steps,
                                          float target) const {
  Choice found;
  for_choices(first, end, pass, [&](const Choice& c) {
    if (found.next == 0 && steps >= c.lowest() && c.at(steps) == target) found = c;
  });
  return found;
}

void ChainPlanner::solve_again(size_t first, size_t last, std::vector<float>& best) const {
  best.assign(static_cast<size_t>(most_) + 1, kNever);
  if (first < last) return take_best(first, last + 1, Pass::again, best);
  const Slots::Option& o = link(first).from_input;
  for (int64_t m = std::max<int64_t>(o.backward_peak, 0); m <= most_; ++m)
    best[static_cast<size_t>(m)] = o.cost;
}

void ChainPlanner::solve_first() {
  first_.assign(length() + 1, std::vector<float>(static_cast<size_t>(most_) + 1, kNever));
  std::ranges::fill(first_[length()], 0.0F);
  for (size_t i = length(); i-- > 0;) take_best(i, length(), Pass::first, first_[i]);
}

std::vector<ChainPlanner::Stretch> ChainPlanner::first_pass(int64_t budget) const {
  std::vector<Stretch> pieces;
  int64_t m = clamped(budget);
  for (size_t i = 0; i < length();) {
    const Choice c = choice(i, length(), Pass::first, m, first_[i][static_cast<size_t>(m)]);
    const auto next = static_cast<int32_t>(c.next);
    pieces.push_back({static_cast<int32_t>(i), next, c.option, c.option < 0 ? m - c.left : 0});
    m -= c.held;
    i = c.next;
  }
  return pieces;
}

std::vector<ChainPlanner::Stretch> ChainPlanner::split(const Stretch& stretch) const {
  const auto first = static_cast<size_t>(stretch.first), end = static_cast<size_t>(stretch.end);
  const int64_t m = std::min(stretch.slots, most_);
  const float target = again(first, end - 1)[static_cast<size_t>(m)];
  const Choice c = choice(first, end, Pass::again, m, target);
  const auto next = static_cast<int32_t>(c.next);
  if (next == 0) return {stretch};
  return {{stretch.first, next, c.option, c.option < 0 ? m - c.left : 0},
          {next, stretch.end, -1, m - c.held}};
}

}  // namespace graft
