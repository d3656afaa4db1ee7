#include "autograd/plan/keep.h"

namespace graft {

namespace {

constexpr int32_t kSource = 0, kSink = 1;
int32_t made(int32_t v) { return 2 + 2 * v; }
int32_t there(int32_t v) { return 3 + 2 * v; }

}  // namespace

// A value and a run have an edge each, as wide as what it costs to keep the one or to repeat the
// other. What is on the sink's side is needed: a value that is not kept needs its run, a run needs
// all that it reads.
LeastToKeep::LeastToKeep(const KeepProblem& problem)
    : network_(2 + 2 * static_cast<int32_t>(problem.price.size())) {
  const auto values = static_cast<int32_t>(problem.price.size());
  std::vector<bool> has_run(problem.price.size(), false);
  for (int32_t v = 0; v < values; ++v)
    value_.push_back(network_.add_edge(made(v), there(v), problem.price[static_cast<size_t>(v)]));
  for (const KeepProblem::Run& run : problem.runs) {
    const int32_t node = network_.add_node();
    run_.push_back(network_.add_edge(kSource, node, run.price));
    for (const int32_t v : run.reads) network_.add_edge(there(v), node, FlowNetwork::kInfinite);
    for (const int32_t v : run.writes) {
      network_.add_edge(node, made(v), FlowNetwork::kInfinite);
      has_run[static_cast<size_t>(v)] = true;
    }
  }
  for (int32_t v = 0; v < values; ++v) {
    if (!has_run[static_cast<size_t>(v)])
      network_.add_edge(kSource, made(v), FlowNetwork::kInfinite);
  }
  for (const int32_t v : problem.wanted) network_.add_edge(there(v), kSink, FlowNetwork::kInfinite);
  for (const int32_t v : problem.must_keep)
    network_.add_edge(kSource, made(v), FlowNetwork::kInfinite);
}

std::vector<bool> LeastToKeep::solve() {
  network_.maximize(kSource, kSink);
  const std::vector<bool> needed = network_.sink_side(kSink);
  std::vector<bool> kept(value_.size());
  for (size_t v = 0; v < kept.size(); ++v) {
    const auto i = static_cast<int32_t>(v);
    kept[v] = !needed[static_cast<size_t>(made(i))] && needed[static_cast<size_t>(there(i))];
  }
  return kept;
}

}  // namespace graft
