// What is kept for backward: minimum cuts against all cuts there are, on random networks and on
// random graphs; what runs again, and what may not.
#include "autograd/plan/recompute.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <map>
#include <set>

#include "autograd/op.h"
#include "autograd/passes/dead_code.h"
#include "autograd/plan/min_cut.h"
#include "autograd/plan/order.h"
#include "autograd/planner.h"
#include "core/random.h"
#include "tests/support/random_graph.h"

namespace graft::testing {
namespace {

TEST(FlowNetwork, FindsTheSmallestOfAllCuts) {
  constexpr int32_t kNodes = 7, kSource = 0, kSink = 1;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const RandomStream random(seed, 1);
    FlowNetwork network(kNodes);
    struct Edge {
      int32_t from, to;
      int64_t capacity;
    };
    std::vector<Edge> edges;
    for (uint64_t i = 0; i < 14; ++i) {
      const Edge e{static_cast<int32_t>(random.bits(3 * i) % kNodes),
                   static_cast<int32_t>(random.bits(3 * i + 1) % kNodes),
                   static_cast<int64_t>(random.bits(3 * i + 2) % 9)};
      if (e.from == e.to) continue;
      edges.push_back(e);
      network.add_edge(e.from, e.to, e.capacity);
    }
    const auto width = [&](uint32_t below) {  // bit: the node is on the sink's side
      int64_t sum = 0;
      for (const Edge& e : edges) {
        if ((below >> e.from & 1) == 0 && (below >> e.to & 1) != 0) sum += e.capacity;
      }
      return sum;
    };
    int64_t least = FlowNetwork::kInfinite;
    int smallest_side = kNodes;
    for (uint32_t below = 0; below < 1u << kNodes; ++below) {
      if ((below >> kSource & 1) != 0 || (below >> kSink & 1) == 0) continue;
      const int64_t w = width(below);
      if (w < least || (w == least && std::popcount(below) < smallest_side)) {
        least = w;
        smallest_side = std::popcount(below);
      }
    }
    EXPECT_EQ(network.maximize(kSource, kSink), least) << "seed " << seed;
    const std::vector<bool> side = network.sink_side(kSink);
    uint32_t below = 0;
    for (int32_t i = 0; i < kNodes; ++i)
      below |= static_cast<uint32_t>(side[static_cast<size_t>(i)]) << i;
    EXPECT_EQ(width(below), least) << "seed " << seed;
    EXPECT_EQ(std::popcount(below), smallest_side) << "closest to the sink; seed " << seed;
  }
}

// A step's forward values and who needs what of them.
struct Needs {
  explicit Needs(const Graph& g)
      : graph(g),
        live(live_nodes(g)),
        once(computed_once(g, live)),
        order(execution_order(g, live, once)) {
    for (const int32_t id : order) {
      const Node& n = graph.node(id);
      if (n.phase == Phase::forward) forward.insert(id);
    }
    for (const Value v : graph.results()) pinned.insert(v);
    for (const int32_t id : order) {
      for (const Value v : graph.node(id).inputs) {
        if (forward.contains(id) || !counts(v)) continue;
        wanted.insert(v);
        if (graph.node(id).phase == Phase::update) must.insert(v);
      }
    }
  }

  bool counts(Value v) const { return v.valid() && forward.contains(v.node); }
  // Whether backward can have all it wants if these values are kept.
  bool enough(const std::set<Value>& kept) const {
    std::map<Value, bool> known;
    const std::function<bool(Value)> there = [&](Value v) -> bool {
      if (!counts(v) || kept.contains(v) || pinned.contains(v)) return true;
      if (const auto it = known.find(v); it != known.end()) return it->second;
      const Node& n = graph.node(v.node);
      const bool again = !n.op->costly && std::ranges::all_of(n.inputs, there);
      return known[v] = again;
    };
    const bool musts =
        std::ranges::all_of(must, [&](Value v) { return kept.contains(v) || pinned.contains(v); });
    return musts && std::ranges::all_of(wanted, there);
  }
  size_t bytes(const std::set<Value>& values) const {
    size_t sum = 0;
    for (const Value v : values) {
      if (!pinned.contains(v)) sum += std::max<size_t>(graph.type(v).bytes(), 1);
    }
    return sum;
  }

  const Graph& graph;
  std::vector<bool> live, once;
  std::vector<int32_t> order;
  std::set<int32_t> forward;
  std::set<Value> wanted, pinned;
  std::set<Value> must;  // read by updates: not computed again from parameters that have changed
};

// What is read behind the first run of backward without having run again.
std::set<Value> kept_in(const Needs& needs, const std::vector<int32_t>& runs) {
  std::set<Value> kept;
  std::set<int32_t> ran, again;
  bool backward = false;
  for (const int32_t id : runs) {
    const bool second = !ran.insert(id).second;
    if (second) again.insert(id);
    backward = backward || !needs.forward.contains(id);
    if (!second && needs.forward.contains(id)) continue;
    for (const Value v : needs.graph.node(id).inputs) {
      if (needs.counts(v) && !again.contains(v.node)) kept.insert(v);
    }
  }
  return kept;
}

TEST(CheapRecomputation, KeepsTheFewestBytes) {
  int checked = 0, saved = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    const RandomGraph g = random_graph(seed);
    const Needs needs(g.step);
    std::vector<Value> values;
    for (const int32_t id : needs.order) {
      for (size_t k = 0; k < g.step.node(id).outputs.size() && needs.forward.contains(id); ++k)
        values.push_back({id, static_cast<int32_t>(k)});
    }
    const auto runs = with_recomputation(g.step, needs.order, cheaply_kept(g.step, needs.order));
    std::set<int32_t> ran;
    for (const int32_t id : runs) {
      if (!ran.insert(id).second) {
        EXPECT_FALSE(g.step.node(id).op->costly) << g.step.node(id).op->name;
        EXPECT_TRUE(needs.forward.contains(id));
      }
    }
    const std::set<Value> kept = kept_in(needs, runs);
    EXPECT_TRUE(needs.enough(kept));
    saved += needs.bytes(kept) < needs.bytes(needs.wanted);
    if (values.size() > 14) continue;
    size_t least = SIZE_MAX;
    for (uint32_t choice = 0; choice < 1u << values.size(); ++choice) {
      std::set<Value> some;
      for (size_t i = 0; i < values.size(); ++i) {
        if ((choice >> i & 1) != 0) some.insert(values[i]);
      }
      if (const size_t bytes = needs.bytes(some); bytes < least && needs.enough(some))
        least = bytes;
    }
    EXPECT_EQ(needs.bytes(kept), least);
    ++checked;
  }
  EXPECT_GT(checked, 50);
  EXPECT_GT(saved, 50);
}

TEST(CheapRecomputation, NoneRunsNothingAgain) {
  const RandomGraph g = random_graph(7);
  const Needs needs(g.step);
  EXPECT_EQ(plan(g.step, {.recompute = Recompute::none}).recompute_flops, 0);
}

}  // namespace
}  // namespace graft::testing
