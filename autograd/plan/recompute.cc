#include "autograd/plan/recompute.h"

#include <algorithm>
#include <map>

#include "autograd/op.h"
#include "autograd/plan/keep.h"
#include "autograd/plan/order.h"
#include "autograd/plan/sequence.h"
#include "autograd/plan/sources.h"
#include "autograd/topological.h"
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
  const std::vector<Value> ends = graph.results();
  std::set<Value> results(ends.begin(), ends.end());

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
      const bool again = !n.op->costly && !changes_state(n);
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

namespace {

// Leaves out runs whose results nobody reads before the same node runs again.
void drop_unread_runs(const Graph& graph, std::vector<int32_t>& runs) {
  // Backwards: what is read behind a run, and whether its node runs there again.
  std::vector<size_t> first{0};  // [node]: of its outputs among all
  for (const Node& n : graph.nodes()) first.push_back(first.back() + n.outputs.size());
  std::vector<bool> wanted(first.back(), false), again(graph.nodes().size(), false);
  std::vector<int32_t> kept;
  for (size_t at = runs.size(); at-- > 0;) {
    const auto id = static_cast<size_t>(runs[at]);
    bool read = false;
    for (size_t v = first[id]; v < first[id + 1]; ++v) {
      read = read || wanted[v];
      wanted[v] = false;
    }
    if (again[id] && !read) continue;
    again[id] = true;
    for (const Value v : graph.nodes()[id].inputs) {
      if (v.valid())
        wanted[first[static_cast<size_t>(v.node)] + static_cast<size_t>(v.output)] = true;
    }
    kept.push_back(runs[at]);
  }
  std::ranges::reverse(kept);
  runs = std::move(kept);
}

// Moves updates of parameters behind the last run that reads the old bytes.
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
  Topological sort(runs.size());  // of positions
  bool early = false;
  for (int32_t at = 0; at < count; ++at) {
    for (const int8_t u : node(at).op->updates) {
      if (u < 0) continue;
      for (const int32_t reader : readers[sources.of(node(at).inputs[static_cast<size_t>(u)])]) {
        if (reader != at) sort.add(reader, at);
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
        sort.add(latest[static_cast<size_t>(v.node)], at);
    }
    latest[static_cast<size_t>(runs[static_cast<size_t>(at)])] = at;
    if (node(at).phase == Phase::update) continue;
    if (before >= 0) sort.add(before, at);
    before = at;
  }
  std::vector<int32_t> moved;
  for (const int32_t at : sort.order()) moved.push_back(runs[static_cast<size_t>(at)]);
  if (moved.size() != runs.size())
    throw GraphError("an update in place is read by what runs again after it");
  runs = std::move(moved);
}

}  // namespace

void tidy(const Graph& graph, std::vector<int32_t>& runs) {
  drop_unread_runs(graph, runs);
  defer_updates(graph, runs);
}

}  // namespace graft
