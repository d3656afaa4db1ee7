#include "autograd/plan/recompute.h"

#include <algorithm>
#include <functional>
#include <map>
#include <queue>

#include "autograd/op.h"
#include "autograd/plan/budget.h"
#include "autograd/plan/keep.h"
#include "autograd/plan/order.h"
#include "autograd/plan/search.h"
#include "autograd/plan/sequence.h"
#include "autograd/plan/sources.h"
#include "core/error.h"

namespace graft {

std::string_view name_of(Recompute recompute) {
  switch (recompute) {
    case Recompute::none:
      return "none";
    case Recompute::cheap:
      return "cheap";
    case Recompute::automatic:
      break;
  }
  return "auto";
}

Recompute recompute_named(std::string_view name) {
  for (const Recompute r : {Recompute::none, Recompute::cheap, Recompute::automatic}) {
    if (name == name_of(r)) return r;
  }
  throw UsageError("--recompute takes none, cheap or auto; got '{}'", name);
}

// Between what only costly nodes give and what backward reads; a value is worth its bytes.
std::set<Value> cheaply_kept(const Graph& graph, const std::vector<int32_t>& order) {
  std::vector<bool> forward(graph.nodes().size(), false);
  for (const int32_t id : order)
    forward[static_cast<size_t>(id)] = graph.node(id).phase == Phase::forward;
  const auto counts = [&](Value v) { return v.valid() && forward[static_cast<size_t>(v.node)]; };
  std::set<Value> results;
  for (const auto* named : {&graph.outputs(), &graph.assignments()}) {
    for (const auto& [name, v] : *named) results.insert(v);
  }

  KeepProblem problem;
  std::vector<Value> values;
  std::map<Value, int32_t> numbers;
  const auto number_of = [&](Value v) {
    const auto [it, fresh] = numbers.try_emplace(v, static_cast<int32_t>(values.size()));
    if (fresh) {
      values.push_back(v);
      // Results are there to the end.
      const auto bytes = static_cast<int64_t>(graph.type(v).bytes());
      problem.price.push_back(results.contains(v) ? 0 : std::max<int64_t>(bytes, 1));
    }
    return it->second;
  };
  for (const int32_t id : order) {
    const Node& n = graph.node(id);
    if (counts({id, 0})) {
      const bool again = !n.op->costly && std::ranges::all_of(n.op->updates, [](int8_t updated) {
        return updated < 0;
      });
      KeepProblem::Run run{{}, {}, again ? 0 : KeepProblem::kNever};
      for (const Value v : n.inputs) {
        if (counts(v)) run.reads.push_back(number_of(v));
      }
      for (size_t k = 0; k < n.outputs.size(); ++k)
        run.writes.push_back(number_of({id, static_cast<int32_t>(k)}));
      problem.runs.push_back(std::move(run));
      continue;
    }
    for (const Value v : n.inputs) {
      if (!counts(v)) continue;
      problem.wanted.push_back(number_of(v));
      // By then parameters may have changed that it would be computed from.
      if (n.phase == Phase::update) problem.must_keep.push_back(number_of(v));
    }
  }
  const std::vector<bool> kept = LeastToKeep(problem).solve();
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i]) results.insert(values[i]);
  }
  return results;
}

std::vector<int32_t> with_recomputation(const Graph& graph, const std::vector<int32_t>& order,
                                        const std::set<Value>& kept) {
  Sequence sequence(graph, order);
  for (const Value v : kept) sequence.keep_to_the_end(v);
  std::vector<int32_t> forward;
  bool behind = false;
  for (const int32_t id : order) {
    if (graph.node(id).phase == Phase::forward) {
      forward.push_back(id);
      behind = false;
    } else if (!behind) {
      sequence.forget(forward);
      behind = true;
    }
    for (const Value v : graph.node(id).inputs) {
      if (behind) sequence.want(v);
    }
    sequence.run(id);
  }
  return sequence.take();
}

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
    drop_unread_runs(graph_, runs);
    defer_updates(graph_, runs);
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

std::vector<int32_t> least_recomputation(const Graph& graph, const std::vector<int32_t>& order,
                                         const Machine& machine, size_t bytes) {
  const size_t live = machine.live_bytes(order);
  if (live <= bytes) return order;
  Best best(graph, machine, bytes);
  if (auto all = search_schedules(graph, order, machine.workspace, bytes)) {
    best.consider(std::move(*all));
    return best.take();
  }
  const std::set<Value> cheap = cheaply_kept(graph, order);
  best.consider(with_recomputation(graph, order, cheap));
  // What many segments read may be kept for all of them, or what is computed from it in each.
  std::vector<Value> always;
  for (const bool far : {true, false}) {
    Segmentation segments = cut_into_segments(graph, order, machine.workspace,
                                              [&](Value v) { return far || cheap.contains(v); });
    if (!far && segments.always == always) break;
    always = segments.always;
    approach(BudgetPlanner(graph, order, std::move(segments)), bytes, live, best);
  }
  return best.take();
}

void drop_unread_runs(const Graph& graph, std::vector<int32_t>& runs) {
  // Backwards: what is read behind a run, and whether its node runs there again.
  std::set<Value> wanted;
  std::vector<bool> again(graph.nodes().size(), false);
  std::vector<int32_t> kept;
  for (size_t at = runs.size(); at-- > 0;) {
    const int32_t id = runs[at];
    const Node& n = graph.node(id);
    bool read = false;
    for (size_t k = 0; k < n.outputs.size(); ++k)
      read |= wanted.erase({id, static_cast<int32_t>(k)}) > 0;
    if (again[static_cast<size_t>(id)] && !read) continue;
    again[static_cast<size_t>(id)] = true;
    for (const Value v : n.inputs) {
      if (v.valid()) wanted.insert(v);
    }
    kept.push_back(id);
  }
  std::ranges::reverse(kept);
  runs = std::move(kept);
}

void defer_updates(const Graph& graph, std::vector<int32_t>& runs) {
  const auto count = static_cast<int32_t>(runs.size());
  const auto node = [&](int32_t at) -> const Node& {
    return graph.node(runs[static_cast<size_t>(at)]);
  };
  const Sources sources(graph);
  std::map<Value, std::vector<int32_t>> readers;  // of the same bytes: positions
  for (int32_t at = 0; at < count; ++at) {
    for (const Value v : node(at).inputs) {
      if (v.valid() && is_leaf(graph.node(sources.of(v).node)))
        readers[sources.of(v)].push_back(at);
    }
  }
  std::vector<std::pair<int32_t, int32_t>> edges;  // positions: what has to come before what
  bool early = false;
  for (int32_t at = 0; at < count; ++at) {
    for (const int8_t u : node(at).op->updates) {
      if (u < 0) continue;
      for (const int32_t reader : readers[sources.of(node(at).inputs[static_cast<size_t>(u)])]) {
        if (reader != at) edges.emplace_back(reader, at);
        early = early || reader > at;
      }
    }
  }
  if (!early) return;
  // All but updates stay as they are; an update waits for what it reads and for who reads what it
  // changes.
  std::vector<int32_t> latest(graph.nodes().size(), -1);
  int32_t before = -1;
  for (int32_t at = 0; at < count; ++at) {
    for (const Value v : node(at).inputs) {
      if (v.valid() && latest[static_cast<size_t>(v.node)] >= 0)
        edges.emplace_back(latest[static_cast<size_t>(v.node)], at);
    }
    latest[static_cast<size_t>(runs[static_cast<size_t>(at)])] = at;
    if (node(at).phase == Phase::update) continue;
    if (before >= 0) edges.emplace_back(before, at);
    before = at;
  }
  std::vector<std::vector<int32_t>> after(runs.size());
  std::vector<int32_t> pending(runs.size(), 0);
  for (const auto& [from, to] : edges) {
    after[static_cast<size_t>(from)].push_back(to);
    ++pending[static_cast<size_t>(to)];
  }
  std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> ready;
  for (int32_t at = 0; at < count; ++at) {
    if (pending[static_cast<size_t>(at)] == 0) ready.push(at);
  }
  std::vector<int32_t> moved;
  while (!ready.empty()) {
    const int32_t at = ready.top();
    ready.pop();
    moved.push_back(runs[static_cast<size_t>(at)]);
    for (const int32_t next : after[static_cast<size_t>(at)]) {
      if (--pending[static_cast<size_t>(next)] == 0) ready.push(next);
    }
  }
  if (moved.size() != runs.size())
    throw GraphError("an update in place is read by what runs again after it");
  runs = std::move(moved);
}

}  // namespace graft
