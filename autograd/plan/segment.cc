#include "autograd/plan/segment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "autograd/plan/keep.h"

namespace graft {
namespace {

// So many of the most costly runs are chosen from one by one; the rest may always come again.
constexpr size_t kChosen = 8;
constexpr size_t kMostOptions = 32;

// The most bytes alive during some runs. `alive_at_end`: values that stay.
class Sweep {
 public:
  explicit Sweep(const Segment& segment)
      : segment_(segment), last_(segment.bytes.size(), -1), alive_(segment.bytes.size(), false) {}

  void add(const Segment::Run* run) {
    for (const int32_t v : run->reads)
      last_[static_cast<size_t>(v)] = static_cast<int32_t>(runs_.size());
    for (const int32_t v : run->writes)
      last_[static_cast<size_t>(v)] =
          std::max(last_[static_cast<size_t>(v)], static_cast<int32_t>(runs_.size()));
    runs_.push_back(run);
  }
  void alive_before(int32_t v) { begin(v); }
  void alive_after(int32_t v) {
    last_[static_cast<size_t>(v)] = std::numeric_limits<int32_t>::max();
  }

  int64_t peak() {
    int64_t peak = bytes_;
    for (size_t at = 0; at < runs_.size(); ++at) {
      const Segment::Run& run = *runs_[at];
      bool in_place = false;
      for (size_t i = 0; i < run.reads.size() && i < 32 && !in_place && !run.writes.empty(); ++i) {
        const int32_t v = run.reads[i];
        in_place =
            (run.overwrites >> i & 1) != 0 && dies(v, at) && bytes(v) == bytes(run.writes[0]);
        if (in_place) end(v);
      }
      for (const int32_t v : run.writes) begin(v);
      peak = std::max(peak, bytes_ + run.workspace);
      for (const int32_t v : run.reads) {
        if (dies(v, at)) end(v);
      }
      for (const int32_t v : run.writes) {
        if (dies(v, at)) end(v);
      }
    }
    return peak;
  }

 private:
  int64_t bytes(int32_t v) const { return segment_.bytes[static_cast<size_t>(v)]; }
  bool dies(int32_t v, size_t at) const {
    return last_[static_cast<size_t>(v)] == static_cast<int32_t>(at);
  }
  void begin(int32_t v) {
    if (!alive_[static_cast<size_t>(v)]) bytes_ += bytes(v);
    alive_[static_cast<size_t>(v)] = true;
  }
  void end(int32_t v) {
    if (alive_[static_cast<size_t>(v)]) bytes_ -= bytes(v);
    alive_[static_cast<size_t>(v)] = false;
  }

  const Segment& segment_;
  std::vector<const Segment::Run*> runs_;
  std::vector<int32_t> last_;  // [value]: the last run that reads it
  std::vector<bool> alive_;
  int64_t bytes_ = 0;
};

std::vector<const Segment::Run*> writers(const Segment& segment) {
  std::vector<const Segment::Run*> of(segment.bytes.size(), nullptr);
  for (const Segment::Run& run : segment.forward) {
    for (const int32_t v : run.writes) of[static_cast<size_t>(v)] = &run;
  }
  return of;
}

// What backward reads of forward.
std::vector<int32_t> wanted(const Segment& segment,
                            const std::vector<const Segment::Run*>& writer) {
  std::set<int32_t> values;
  for (const Segment::Run& run : segment.backward) {
    for (const int32_t v : run.reads) {
      if (v == segment.input || writer[static_cast<size_t>(v)] != nullptr) values.insert(v);
    }
  }
  return {values.begin(), values.end()};
}

}  // namespace

KeepOption replay(const Segment& segment, const std::vector<bool>& kept) {
  KeepOption option;
  const std::vector<const Segment::Run*> writer = writers(segment);
  Sweep forward(segment), backward(segment);
  for (const Segment::Run& run : segment.forward) forward.add(&run);
  if (segment.input >= 0) forward.alive_before(segment.input);
  if (segment.output >= 0) forward.alive_after(segment.output);
  for (size_t v = 0; v < kept.size(); ++v) {
    if (!kept[v]) continue;
    option.kept += segment.bytes[v];
    forward.alive_after(static_cast<int32_t>(v));
    backward.alive_before(static_cast<int32_t>(v));
  }
  option.forward_peak = forward.peak();

  std::vector<bool> there = kept;
  const auto want = [&](const auto& self, int32_t v) -> void {
    const Segment::Run* run = writer[static_cast<size_t>(v)];
    if (there[static_cast<size_t>(v)]) return;
    there[static_cast<size_t>(v)] = true;
    if (run == nullptr) {
      if (v == segment.input) option.cost = std::numeric_limits<double>::infinity();
      return;
    }
    for (const int32_t in : run->reads) self(self, in);
    for (const int32_t out : run->writes) there[static_cast<size_t>(out)] = true;
    option.cost += run->cost;
    backward.add(run);
  };
  for (const Segment::Run& run : segment.backward) {
    for (const int32_t v : run.reads) want(want, v);
    backward.add(&run);
  }
  for (const int32_t v : segment.entering) backward.alive_before(v);
  for (const int32_t v : segment.leaving) backward.alive_after(v);
  option.backward_peak = backward.peak();
  return option;
}

std::vector<SegmentOption> options_of(const Segment& segment) {
  const std::vector<const Segment::Run*> writer = writers(segment);
  KeepProblem problem;
  problem.wanted = wanted(segment, writer);
  problem.price.assign(segment.bytes.begin(), segment.bytes.end());
  for (int64_t& price : problem.price) price = std::max<int64_t>(price, 1);
  std::vector<size_t> costly;  // what may be chosen to run again
  for (size_t i = 0; i < segment.forward.size(); ++i) {
    const Segment::Run& run = segment.forward[i];
    problem.runs.push_back(
        {run.reads, run.writes, std::isfinite(run.cost) ? 0 : KeepProblem::kNever});
    if (std::isfinite(run.cost)) costly.push_back(i);
  }
  std::ranges::stable_sort(costly, [&](size_t a, size_t b) {
    return segment.forward[a].cost > segment.forward[b].cost;
  });
  costly.resize(std::min(costly.size(), kChosen));

  std::vector<SegmentOption> all;
  std::set<std::vector<bool>> known;
  const auto try_kept = [&](std::vector<bool> kept) {
    if (!known.insert(kept).second) return;
    const KeepOption option = replay(segment, kept);
    if (std::isfinite(option.cost)) all.push_back({std::move(kept), option});
  };
  std::vector<bool> everything(segment.bytes.size(), false);
  for (const int32_t v : problem.wanted) everything[static_cast<size_t>(v)] = true;
  try_kept(everything);
  LeastToKeep least(problem);
  // Sets of runs that may come again. Only one whose results are kept makes a difference when it is
  // added.
  std::vector<bool> seen(size_t{1} << costly.size(), false);
  std::vector<uint32_t> open{0};
  seen[0] = true;
  while (!open.empty()) {
    const uint32_t again = open.back();
    open.pop_back();
    for (size_t k = 0; k < costly.size(); ++k)
      least.set_price_of_run(costly[k], (again >> k & 1) != 0 ? 0 : KeepProblem::kNever);
    const std::vector<bool> kept = least.solve();
    for (size_t k = 0; k < costly.size(); ++k) {
      const uint32_t more = again | 1U << k;
      const bool matters = std::ranges::any_of(segment.forward[costly[k]].writes, [&](int32_t v) {
        return kept[static_cast<size_t>(v)];
      });
      if (!matters || seen[more]) continue;
      seen[more] = true;
      open.push_back(more);
    }
    try_kept(kept);
  }
  // Between keeping everything and running all that is cheap: a byte is worth so many operations.
  constexpr double kFine = 4;
  for (size_t i = 0; i < segment.forward.size(); ++i) {
    const double cost = segment.forward[i].cost;
    least.set_price_of_run(i,
                           std::isfinite(cost) ? std::llround(cost * kFine) : KeepProblem::kNever);
  }
  for (double worth = 0.25; worth < 1e5; worth *= 4) {
    for (size_t v = 0; v < problem.price.size(); ++v)
      least.set_price_of_value(v,
                               std::llround(static_cast<double>(problem.price[v]) * worth * kFine));
    try_kept(least.solve());
  }

  const auto beats = [](const KeepOption& a, const KeepOption& b) {
    return a.kept <= b.kept && a.cost <= b.cost && a.forward_peak <= b.forward_peak &&
           a.backward_peak <= b.backward_peak;
  };
  std::vector<SegmentOption> best;
  std::ranges::stable_sort(all, [](const SegmentOption& a, const SegmentOption& b) {
    return std::pair(a.option.kept, a.option.cost) < std::pair(b.option.kept, b.option.cost);
  });
  for (const SegmentOption& o : all) {
    if (std::ranges::none_of(best, [&](const auto& b) { return beats(b.option, o.option); }))
      best.push_back(o);
  }
  // Too many: those that keep and cost more than another, whatever their peaks are.
  for (size_t i = best.size(); i-- > 0 && best.size() > kMostOptions;) {
    const bool beaten =
        std::any_of(best.begin(), best.begin() + static_cast<ptrdiff_t>(i),
                    [&](const auto& b) { return b.option.cost <= best[i].option.cost; });
    if (beaten) best.erase(best.begin() + static_cast<ptrdiff_t>(i));
  }
  return best;
}

ChainLink link_of(const Segment& segment) {
  ChainLink link;
  std::vector<bool> only_input(segment.bytes.size(), false);
  if (segment.input >= 0) {
    only_input[static_cast<size_t>(segment.input)] = true;
    link.input = segment.bytes[static_cast<size_t>(segment.input)];
  }
  link.from_input = replay(segment, only_input);
  link.forward_peak = replay(segment, std::vector<bool>(segment.bytes.size(), false)).forward_peak;
  link.left = segment.left;
  // Only what the output is computed from runs again.
  if (segment.output >= 0) {
    const std::vector<const Segment::Run*> writer = writers(segment);
    std::vector<bool> seen(segment.bytes.size(), false);
    const auto visit = [&](const auto& self, int32_t v) -> void {
      const Segment::Run* run = writer[static_cast<size_t>(v)];
      if (run == nullptr || seen[static_cast<size_t>(v)]) return;
      for (const int32_t out : run->writes) seen[static_cast<size_t>(out)] = true;
      for (const int32_t in : run->reads) self(self, in);
      link.forward_cost += run->cost;
    };
    visit(visit, segment.output);
  }
  return link;
}

}  // namespace graft
