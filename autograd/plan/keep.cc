#include "autograd/plan/keep.h"

namespace graft {

// A value and a run have an edge each, as wide as what it costs to keep the one or to repeat the
// other. What is on the sink's side is needed: a value that is not kept needs its run, a run needs
// all that it reads.
std::vector<bool> least_to_keep(const KeepProblem& problem) {
  constexpr int32_t kSource = 0, kSink = 1;
  const auto values = static_cast<int32_t>(problem.price.size());
  FlowNetwork network(2 + 2 * values);
  const auto made = [](int32_t v) { return 2 + 2 * v; };
  const auto there = [](int32_t v) { return 3 + 2 * v; };
  std::vector<bool> has_run(problem.price.size(), false);
  for (int32_t v = 0; v < values; ++v)
    network.add_edge(made(v), there(v), problem.price[static_cast<size_t>(v)]);
  for (const KeepProblem::Run& run : problem.runs) {
    const int32_t node = network.add_node();
    if (run.price > 0) network.add_edge(kSource, node, run.price);
    for (const int32_t v : run.reads) network.add_edge(there(v), node, FlowNetwork::kInfinite);
    for (const int32_t v : run.writes) {
      network.add_edge(node, made(v), FlowNetwork::kInfinite);
      has_run[static_cast<size_t>(v)] = true;
    }
  }
  for (int32_t v = 0; v < values; ++v) {
    if (!has_run[static_cast<size_t>(v)])
      network.add_edge(kSource, made(v), FlowNetwork::kInfinite);
  }
  for (const int32_t v : problem.wanted) network.add_edge(there(v), kSink, FlowNetwork::kInfinite);
  for (const int32_t v : problem.must_keep)
    network.add_edge(kSource, made(v), FlowNetwork::kInfinite);
  network.maximize(kSource, kSink);
  const std::vector<bool> needed = network.sink_side(kSink);
  std::vector<bool> kept(problem.price.size());
  for (int32_t v = 0; v < values; ++v)
    kept[static_cast<size_t>(v)] =
        !needed[static_cast<size_t>(made(v))] && needed[static_cast<size_t>(there(v))];
  return kept;
}

}  // namespace graft
