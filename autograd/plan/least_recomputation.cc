#include "autograd/plan/least_recomputation.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "autograd/plan/recompute.h"
#include "autograd/plan/search.h"

namespace graft {

double cost_of_repeats(const Graph& graph, const std::vector<int32_t>& runs) {
  std::vector<bool> ran(graph.nodes().size(), false);
  double cost = 0;
  for (const int32_t id : runs) {
    if (ran[static_cast<size_t>(id)]) cost += predicted_cost(graph, graph.node(id));
    ran[static_cast<size_t>(id)] = true;
  }
  return cost;
}

namespace {

// The best runs so far.
class Best {
 public:
  Best(const Graph& graph, const Machine& machine, size_t bytes)
      : graph_(graph), machine_(machine), bytes_(bytes) {}

  // Returns their live bytes.
  size_t consider(std::vector<int32_t> runs) {
    tidy(graph_, runs);
    const size_t live = machine_.live_bytes(runs);
    const double cost = cost_of_repeats(graph_, runs);
    const bool better = live_ > bytes_ ? live < live_ : live <= bytes_ && cost < cost_;
    if (better) {
      runs_ = std::move(runs);
      cost_ = cost;
      live_ = live;
    }
    return live;
  }
  std::vector<int32_t> take() { return std::move(runs_); }

 private:
  const Graph& graph_;
  const Machine& machine_;
  size_t bytes_;
  std::vector<int32_t> runs_;
  double cost_ = 0;
  size_t live_ = SIZE_MAX;
};

// Live bytes grow with a planner's budget nearly as fast as it does: between one that fits and one
// that does not, the next is where a straight line would meet `bytes`.
void approach(const BudgetPlanner& planner, size_t bytes, size_t live_without, Best& best) {
  constexpr double kCloseEnough = 0.998;
  const double step = std::max(1.0, planner.step());
  auto low = static_cast<double>(planner.least()), high = static_cast<double>(planner.most());
  const auto aim = static_cast<double>(bytes);
  const auto live_at = [&](double budget) {
    return static_cast<double>(best.consider(planner.runs(static_cast<int64_t>(budget))));
  };
  double live_low = live_at(low), live_high = static_cast<double>(live_without);
  for (int same = 0; live_low < kCloseEnough * aim && high - low > step;) {
    // Halves where the line keeps missing on one side.
    const double share =
        std::abs(same) > 1 ? 0.5 : (aim - live_low) / std::max(live_high - live_low, 1.0);
    const double middle = std::clamp(low + share * (high - low), low + step / 2, high - step / 2);
    const double live = live_at(middle);
    if (live <= aim) {
      low = middle, live_low = live;
      same = std::max(same, 0) + 1;
    } else {
      high = middle, live_high = live;
      same = std::min(same, 0) - 1;
    }
  }
}

}  // namespace

LeastRecomputation::LeastRecomputation(const Graph& graph, const std::vector<int32_t>& order,
                                       Machine machine)
    : graph_(graph),
      order_(order),
      machine_(std::move(machine)),
      live_without_(machine_.live_bytes(order)) {}

void LeastRecomputation::make_planners() {
  const std::set<Value> kept = cheaply_kept(graph_, order_);
  cheap_ = with_recomputation(graph_, order_, kept);
  std::vector<Value> always;
  for (const bool far : {true, false}) {
    Segmentation segments = cut_into_segments(graph_, order_, machine_.scratch,
                                              [&](Value v) { return far || kept.contains(v); });
    if (!far && segments.always == always) break;
    always = segments.always;
    planners_.emplace_back(graph_, order_, std::move(segments));
  }
}

std::vector<int32_t> LeastRecomputation::within(size_t bytes) {
  if (live_without_ <= bytes) return order_;
  Best best(graph_, machine_, bytes);
  if (auto all = search_schedules(graph_, order_, machine_.scratch, bytes)) {
    best.consider(std::move(*all));
    return best.take();
  }
  if (planners_.empty()) make_planners();
  best.consider(cheap_);
  for (const BudgetPlanner& planner : planners_) approach(planner, bytes, live_without_, best);
  return best.take();
}

}  // namespace graft
