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

int64_t ChainPlanner::passing_peak(size_t first, size_t end) const {
  int64_t peak = link(first).forward_peak;
  for (size_t i = first + 1; i < end; ++i)
    peak = std::max(peak, link(first).input + link(i).forward_peak);
  return peak;
}

void ChainPlanner::solve_again(size_t first, size_t last, std::vector<float>& best) const {
  best.assign(static_cast<size_t>(most_) + 1, kNever);
  const Slots& l = link(first);
  if (first == last) {
    for (int64_t m = std::max<int64_t>(l.from_input.backward_peak, 0); m <= most_; ++m)
      best[static_cast<size_t>(m)] = l.from_input.cost;
    return;
  }
  // Takes the better of what stands there and `upper` with memory for `held` less, `lower` with
  // memory for `left` less, where there is memory for `least`.
  const auto improve = [&](const std::vector<float>& upper, int64_t held, const float* lower,
                           int64_t left, int64_t least, float cost) {
    for (int64_t m = std::max({least, held, left, int64_t{0}}); m <= most_; ++m) {
      const float other = lower == nullptr ? 0 : lower[m - left];
      best[static_cast<size_t>(m)] = std::min(best[static_cast<size_t>(m)],
                                              upper[static_cast<size_t>(m - held)] + other + cost);
    }
  };
  const int64_t left_above = left_between(first + 1, last + 1);
  for (const Slots::Option& o : l.options)
    improve(again(first + 1, last), o.kept, nullptr, 0,
            std::max(o.forward_peak, o.backward_peak + left_above), l.forward_cost + o.cost);
  float passing = 0;
  int64_t peak = 0;
  for (size_t s = first + 1; s <= last; ++s) {
    passing += link(s - 1).forward_cost;
    peak = std::max(peak, link(s - 1).forward_peak + (s - 1 > first ? l.input : 0));
    improve(again(s, last), l.input, again(first, s - 1).data(), left_between(s, last + 1), peak,
            passing);
  }
}

void ChainPlanner::solve_first() {
  first_.assign(length() + 1, std::vector<float>(static_cast<size_t>(most_) + 1, kNever));
  std::ranges::fill(first_[length()], 0.0F);
  for (size_t i = length(); i-- > 0;) {
    std::vector<float>& best = first_[i];
    for (const Slots::Option& o : link(i).options) {
      const int64_t least = std::max({o.forward_peak, o.backward_peak + left_after(i), o.kept});
      for (int64_t m = std::max<int64_t>(least, 0); m <= most_; ++m)
        best[static_cast<size_t>(m)] = std::min(
            best[static_cast<size_t>(m)], first_[i + 1][static_cast<size_t>(m - o.kept)] + o.cost);
    }
    int64_t peak = 0;
    for (size_t s = i + 1; s <= length(); ++s) {
      peak = std::max(peak, link(s - 1).forward_peak + (s - 1 > i ? link(i).input : 0));
      const int64_t left = left_after(s - 1);
      const std::vector<float>& lower = again(i, s - 1);
      for (int64_t m = std::max({peak, link(i).input, left}); m <= most_; ++m)
        best[static_cast<size_t>(m)] = std::min(best[static_cast<size_t>(m)],
                                                first_[s][static_cast<size_t>(m - link(i).input)] +
                                                    lower[static_cast<size_t>(m - left)]);
    }
  }
}

std::vector<ChainPlanner::Stretch> ChainPlanner::first_pass(int64_t budget) const {
  std::vector<Stretch> pieces;
  int64_t m = clamped(budget);
  for (size_t i = 0; i < length();) {
    const float target = first_[i][static_cast<size_t>(m)];
    Stretch found;
    for (size_t k = 0; k < link(i).options.size() && found.end == 0; ++k) {
      const Slots::Option& o = link(i).options[k];
      if (m < std::max({o.forward_peak, o.backward_peak + left_after(i), o.kept})) continue;
      if (first_[i + 1][static_cast<size_t>(m - o.kept)] + o.cost == target)
        found = {static_cast<int32_t>(i), static_cast<int32_t>(i) + 1, static_cast<int32_t>(k), 0};
    }
    for (size_t s = i + 1; s <= length() && found.end == 0; ++s) {
      const int64_t left = left_after(s - 1);
      if (m < std::max({passing_peak(i, s), link(i).input, left})) continue;
      if (first_[s][static_cast<size_t>(m - link(i).input)] +
              again(i, s - 1)[static_cast<size_t>(m - left)] ==
          target)
        found = {static_cast<int32_t>(i), static_cast<int32_t>(s), -1, m - left};
    }
    m -=
        found.option >= 0 ? link(i).options[static_cast<size_t>(found.option)].kept : link(i).input;
    pieces.push_back(found);
    i = static_cast<size_t>(found.end);
  }
  return pieces;
}

std::vector<ChainPlanner::Stretch> ChainPlanner::split(const Stretch& stretch) const {
  const auto first = static_cast<size_t>(stretch.first);
  const auto last = static_cast<size_t>(stretch.end) - 1;
  const int64_t m = std::min(stretch.slots, most_);
  const float target = again(first, last)[static_cast<size_t>(m)];
  const Slots& l = link(first);
  const int64_t left_above = left_between(first + 1, last + 1);
  for (size_t k = 0; k < l.options.size(); ++k) {
    const Slots::Option& o = l.options[k];
    if (m < std::max({o.forward_peak, o.backward_peak + left_above, o.kept})) continue;
    if (again(first + 1, last)[static_cast<size_t>(m - o.kept)] + (l.forward_cost + o.cost) ==
        target)
      return {{stretch.first, stretch.first + 1, static_cast<int32_t>(k), 0},
              {stretch.first + 1, stretch.end, -1, m - o.kept}};
  }
  float passing = 0;
  for (size_t s = first + 1; s <= last; ++s) {
    passing += link(s - 1).forward_cost;
    const int64_t left = left_between(s, last + 1);
    if (m < std::max({passing_peak(first, s), l.input, left})) continue;
    if (again(s, last)[static_cast<size_t>(m - l.input)] +
            again(first, s - 1)[static_cast<size_t>(m - left)] + passing ==
        target)
      return {{stretch.first, static_cast<int32_t>(s), -1, m - left},
              {static_cast<int32_t>(s), stretch.end, -1, m - l.input}};
  }
  return {stretch};
}

}  // namespace graft
