// Steps under a memory budget: against the binomial optimum on uniform chains, against all
// schedules there are on small random graphs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <queue>

#include "autograd/builder.h"
#include "autograd/gradient.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "autograd/passes/dead_code.h"
#include "autograd/plan/chain.h"
#include "autograd/plan/least_recomputation.h"
#include "autograd/plan/order.h"
#include "autograd/plan/segmentation.h"
#include "autograd/planner.h"
#include "core/random.h"

namespace graft::testing {
namespace {

// Forward steps that `snapshots` of a chain's states cost in all, the first state being one of them
// (Griewank & Walther 2000, proposition 1).
int64_t binomial_optimum(int64_t length, int64_t snapshots) {
  const auto reach = [&](int64_t s, int64_t r) {  // C(s + r, s)
    if (r < 0) return int64_t{0};
    double c = 1;
    for (int64_t i = 1; i <= s; ++i) c = c * static_cast<double>(r + i) / static_cast<double>(i);
    return static_cast<int64_t>(std::llround(c));
  };
  int64_t r = 0;
  while (reach(snapshots, r) < length) ++r;
  return r * length - reach(snapshots + 1, r - 1);
}

TEST(ChainPlanner, IsTheBinomialOptimumOnUniformChains) {
  const KeepOption input{.kept = 1, .forward_peak = 0, .backward_peak = 1, .cost = 0};
  const ChainLink link{.input = 1, .forward_cost = 1, .from_input = input, .options = {input}};
  for (int64_t length = 1; length <= 60; ++length) {
    const ChainPlanner chain({link}, std::vector<int32_t>(static_cast<size_t>(length), 0), length);
    EXPECT_TRUE(std::isinf(chain.cost(0)));
    for (int64_t snapshots = 1; snapshots < length; ++snapshots) {
      // Here the state that a step begins from takes memory too, and the first pass over all but
      // the last step is not counted.
      EXPECT_EQ(chain.cost(snapshots + 1), binomial_optimum(length, snapshots) - (length - 1))
          << length << " steps, " << snapshots << " snapshots";
    }
  }
}

// Every schedule of a small graph: the cheapest by Dijkstra's algorithm over (what has run of the
// order, what is alive).
class AllSchedules {
 public:
  explicit AllSchedules(const Graph& graph)
      : graph_(graph),
        live_(live_nodes(graph)),
        once_(computed_once(graph, live_)),
        order_(execution_order(graph, live_, once_)) {
    const Program program = plan(graph, {.recompute = Recompute::none, .in_place = false});
    for (const int32_t id : order_) {
      const int32_t buffer = program.workspace[static_cast<size_t>(id)];
      workspace_[id] = buffer < 0 ? 0 : program.buffers[static_cast<size_t>(buffer)].bytes;
      const Node& n = graph.node(id);
      if (n.op->view_of >= 0) {
        const auto base = number_.find(n.inputs[static_cast<size_t>(n.op->view_of)]);
        if (base != number_.end()) number_[{id, 0}] = base->second;
        continue;
      }
      for (size_t k = 0; k < graph.node(id).outputs.size(); ++k) {
        number_[{id, static_cast<int32_t>(k)}] = static_cast<int32_t>(bytes_.size());
        bytes_.push_back((graph.type({id, static_cast<int32_t>(k)}).bytes() + 63) / 64 * 64);
      }
    }
    for (const auto& [name, v] : graph.outputs()) results_ |= bit(v);
  }
  size_t values() const { return bytes_.size(); }
  size_t nodes() const { return order_.size(); }

  const std::vector<int32_t>& order() const { return order_; }
  Scratch scratch() const {
    Scratch all(graph_.nodes().size(), 0);
    for (const auto& [id, bytes] : workspace_)
      all[static_cast<size_t>(id)] = static_cast<int64_t>(bytes);
    return all;
  }
  // The most bytes alive in these runs.
  size_t live_bytes(const std::vector<int32_t>& runs) const {
    std::vector<uint32_t> wanted(runs.size() + 1, results_);  // behind each run
    for (size_t at = runs.size(); at-- > 0;)
      wanted[at] = (wanted[at + 1] & ~makes(runs[at])) | needs(graph_.node(runs[at]));
    size_t most = 0;
    for (size_t at = 0; at < runs.size(); ++at)
      most = std::max(most,
                      size_of((wanted[at] | makes(runs[at])) | (wanted[at + 1] & makes(runs[at]))) +
                          workspace_.at(runs[at]));
    return most;
  }

  // Infinite where no schedule fits.
  double least_cost(size_t budget) const {
    using State = std::pair<size_t, uint32_t>;
    std::map<State, double> best;
    std::priority_queue<std::pair<double, State>, std::vector<std::pair<double, State>>,
                        std::greater<>>
        open;
    const auto reach = [&](size_t at, uint32_t alive, double cost) {
      const auto [it, fresh] = best.try_emplace({at, alive}, cost);
      if (!fresh && it->second <= cost) return;
      it->second = cost;
      open.push({cost, {at, alive}});
    };
    reach(0, 0, 0);
    while (!open.empty()) {
      const auto [cost, state] = open.top();
      const auto [at, alive] = state;
      open.pop();
      if (best.at(state) < cost) continue;
      if (at == order_.size() && (alive & results_) == results_) return cost;
      for (size_t v = 0; v < bytes_.size(); ++v) {
        if ((alive >> v & 1) != 0) reach(at, alive & ~(1U << v), cost);
      }
      for (size_t i = 0; i <= at && i < order_.size(); ++i) {
        const Node& n = graph_.node(order_[i]);
        if (i < at && n.phase != Phase::forward) continue;
        if ((needs(n) & ~alive) != 0) continue;
        const uint32_t with = alive | makes(order_[i]);
        // What runs again into bytes that are there changes nothing.
        if (size_of(with) + workspace_.at(order_[i]) > budget || (i < at && with == alive))
          continue;
        reach(i == at ? at + 1 : at, with, cost + (i < at ? predicted_cost(graph_, n) : 0));
      }
    }
    return INFINITY;
  }

 private:
  uint32_t bit(Value v) const {
    const auto it = number_.find(v);
    return it == number_.end() ? 0 : 1U << it->second;
  }
  uint32_t needs(const Node& n) const {
    uint32_t mask = 0;
    for (const Value v : n.inputs) mask |= v.valid() ? bit(v) : 0;
    return mask;
  }
  uint32_t makes(int32_t id) const {
    uint32_t mask = 0;
    for (size_t k = 0; k < graph_.node(id).outputs.size(); ++k)
      mask |= bit({id, static_cast<int32_t>(k)});
    return mask;
  }
  size_t size_of(uint32_t alive) const {
    size_t sum = 0;
    for (size_t v = 0; v < bytes_.size(); ++v) sum += (alive >> v & 1) != 0 ? bytes_[v] : 0;
    return sum;
  }

  const Graph& graph_;
  std::vector<bool> live_, once_;
  std::vector<int32_t> order_;
  std::map<Value, int32_t> number_;
  std::map<int32_t, size_t> workspace_;
  std::vector<size_t> bytes_;
  uint32_t results_ = 0;
};

// A few operations of different prices and sizes, some of which read the value before the last.
Graph small_joint_graph(uint64_t seed) {
  const RandomStream random(seed, 5);
  uint64_t next = 0;
  const auto below = [&](uint32_t n) { return random.bits(next++) % n; };
  Builder b;
  const auto wide = [&] { return Shape{16, 16 * (1 + static_cast<int64_t>(below(3)))}; };
  const auto weight = [&](const Shape& shape, bool trainable) {
    return b.param(
        {.name = fmt::format("w{}", next), .type = {DType::f32, shape}, .trainable = trainable});
  };
  std::vector<Value> values{weight(wide(), true)};
  const uint32_t count = 3 + below(3);
  for (uint32_t i = 0; i < count; ++i) {
    const Value x = values.back();
    const Shape shape = b.shape(x);
    const Value other = values[below(static_cast<uint32_t>(values.size()))];
    switch (below(5)) {
      case 0:
        values.push_back(ops::tanh(b, x));
        break;
      case 1:
        values.push_back(ops::gelu_erf(b, x));
        break;
      case 2:
        values.push_back(b.shape(other) == shape ? ops::mul(b, x, other) : ops::mul(b, x, x));
        break;
      default: {
        const int64_t out = 16 * (1 + static_cast<int64_t>(below(3)));
        const Value w = weight({out, shape[1]}, below(2) == 0);
        values.push_back(ops::linear(b, x, w));
      }
    }
  }
  const Value last = values.back();
  const Value loss = ops::sum(b, ops::mul(b, last, last));
  b.output("loss", loss);
  for (const auto& [name, g] : gradient(b, loss)) b.output("d_" + name, g);
  return b.finish();
}

TEST(Budgets, EqualTheCheapestOfAllSchedules) {
  int graphs = 0, again = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const Graph g = small_joint_graph(seed);
    const AllSchedules all(g);
    if (all.values() > 14 || graphs >= 40) continue;
    ++graphs;
    LeastRecomputation least_recomputation(
        g, all.order(),
        {all.scratch(), [&](const std::vector<int32_t>& runs) { return all.live_bytes(runs); }});
    for (size_t bytes = all.live_bytes(all.order()); bytes > 0;
         bytes -= std::min<size_t>(bytes, 1024)) {
      const double least = all.least_cost(bytes);
      if (std::isinf(least)) break;
      const auto runs = least_recomputation.within(bytes);
      ASSERT_LE(all.live_bytes(runs), bytes) << "seed " << seed;
      EXPECT_LE(cost_of_repeats(g, runs), least * (1 + 1e-6)) << "seed " << seed << ", " << bytes;
      again += cost_of_repeats(g, runs) > 0;
    }
  }
  EXPECT_GT(graphs, 20);
  EXPECT_GT(again, 20);
}

}  // namespace
}  // namespace graft::testing
