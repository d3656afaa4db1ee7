#include "autograd/plan/search.h"

#include <algorithm>
#include <limits>
#include <map>
#include <queue>

#include "autograd/op.h"
#include "autograd/plan/layout.h"
#include "autograd/plan/segmentation.h"
#include "autograd/plan/sources.h"

namespace graft {
namespace {

constexpr size_t kMostRuns = 20, kMostValues = 24, kMostStates = 200'000;

using Values = uint32_t;  // bit: by number

// A run of the order, what it reads and writes.
struct Move {
  Values reads = 0, writes = 0;
  size_t workspace = 0;
  double again = 0;  // what it costs to repeat; infinite where it must not
};

class Search {
 public:
  Search(const Graph& graph, const std::vector<int32_t>& order, const Scratch& scratch)
      : graph_(graph), order_(order) {
    for (const int32_t id : order) {
      const Node& n = graph.node(id);
      Move move{
          .workspace = aligned_in_arena(static_cast<size_t>(scratch[static_cast<size_t>(id)])),
          .again = predicted_cost(graph, n)};
      if (n.phase != Phase::forward || changes_state(n))
        move.again = std::numeric_limits<double>::infinity();
      for (const Value v : n.inputs) move.reads |= v.valid() ? bit(v) : 0;
      for (size_t k = 0; k < n.outputs.size(); ++k)
        move.writes |= number({id, static_cast<int32_t>(k)});
      moves_.push_back(move);
    }
    for (const Value v : graph.results()) results_ |= bit(v);
  }
  bool small() const { return bytes_.size() <= kMostValues; }

  std::optional<std::vector<int32_t>> run(size_t bytes) {
    reach({0, 0}, 0, {}, -1);
    while (!open_.empty() && best_.size() < kMostStates) {
      const auto [cost, state] = open_.top();
      open_.pop();
      if (best_.at(state).cost < cost) continue;
      const auto [at, alive] = state;
      if (at == moves_.size() && (alive & results_) == results_) return path(state);
      for (size_t v = 0; v < bytes_.size(); ++v) {
        if ((alive >> v & 1) != 0) reach({at, alive & ~(Values{1} << v)}, cost, state, -1);
      }
      for (size_t i = 0; i <= at && i < moves_.size(); ++i) {
        const Move& move = moves_[i];
        const Values with = alive | move.writes;
        const double more = cost + (i < at ? move.again : 0);
        const bool useless = i < at && with == alive;
        if ((move.reads & ~alive) != 0 || useless || !(more < kNever) ||
            size_of(with) + move.workspace > bytes)
          continue;
        reach({i == at ? at + 1 : at, with}, more, state, static_cast<int32_t>(i));
      }
    }
    return std::nullopt;
  }

 private:
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  using State = std::pair<size_t, Values>;
  struct Reached {
    double cost = 0;
    State from;
    int32_t move = -1;  // -1: something was dropped
  };
  using Open = std::pair<double, State>;

  Values bit(Value v) const {
    const auto it = numbers_.find(v);
    return it == numbers_.end() ? 0 : Values{1} << it->second;
  }
  // Of a value that a run writes; a view is what it looks at.
  Values number(Value v) {
    const Node& n = graph_.node(v.node);
    if (n.op->view_of >= 0) {
      const auto base = numbers_.find(n.inputs[static_cast<size_t>(n.op->view_of)]);
      if (base == numbers_.end()) return 0;
      numbers_[v] = base->second;
    } else {
      numbers_[v] = static_cast<int32_t>(bytes_.size());
      bytes_.push_back(aligned_in_arena(graph_.type(v).bytes()));
      if (!small()) return 0;
    }
    return bit(v);
  }
  size_t size_of(Values alive) const {
    size_t sum = 0;
    for (size_t v = 0; v < bytes_.size(); ++v) sum += (alive >> v & 1) != 0 ? bytes_[v] : 0;
    return sum;
  }
  void reach(const State& state, double cost, const State& from, int32_t move) {
    const auto [it, fresh] = best_.try_emplace(state, Reached{cost, from, move});
    if (!fresh && it->second.cost <= cost) return;
    it->second = {cost, from, move};
    open_.push({cost, state});
  }
  std::vector<int32_t> path(State state) const {
    std::vector<int32_t> runs;
    while (state != State{0, 0}) {
      const Reached& r = best_.at(state);
      if (r.move >= 0) runs.push_back(order_[static_cast<size_t>(r.move)]);
      state = r.from;
    }
    std::ranges::reverse(runs);
    return runs;
  }

  const Graph& graph_;
  const std::vector<int32_t>& order_;
  std::map<Value, int32_t> numbers_;
  std::vector<size_t> bytes_;
  std::vector<Move> moves_;
  Values results_ = 0;
  std::map<State, Reached> best_;
  std::priority_queue<Open, std::vector<Open>, std::greater<>> open_;
};

}  // namespace

std::optional<std::vector<int32_t>> search_schedules(const Graph& graph,
                                                     const std::vector<int32_t>& order,
                                                     const Scratch& scratch, size_t bytes) {
  if (order.size() > kMostRuns) return std::nullopt;
  Search search(graph, order, scratch);
  if (!search.small()) return std::nullopt;
  return search.run(bytes);
}

}  // namespace graft
