#include "autograd/plan/lives.h"

#include <algorithm>

#include "autograd/op.h"

namespace graft {

Lives::Lives(const Graph& graph, const std::vector<int32_t>& runs) {
  const size_t count = graph.nodes().size();
  of_.resize(count);
  last_read_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    of_[i].resize(graph.nodes()[i].outputs.size());
    last_read_[i].assign(graph.nodes()[i].outputs.size(), -1);
  }
  const auto end = static_cast<int32_t>(runs.size());
  for (int32_t at = 0; at < end; ++at) {
    const int32_t id = runs[static_cast<size_t>(at)];
    for (const Value v : graph.node(id).inputs) {
      if (!v.valid()) continue;
      auto& lives = of_[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
      if (!lives.empty()) lives.back().last = at;
      last_read_[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)] = at;
    }
    for (auto& lives : of_[static_cast<size_t>(id)]) lives.push_back({at, at});
  }
  for (const Value v : graph.results()) {
    auto& lives = of_[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
    if (!lives.empty()) lives.back().last = end;
    last_read_[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)] = end;
  }
  // Views of views come after what they look at: backwards, each has its own views' readers by now.
  for (int32_t at = end; at-- > 0;) {
    const int32_t id = runs[static_cast<size_t>(at)];
    const Node& n = graph.node(id);
    if (n.op->view_of < 0) continue;
    const auto run_at = [at](const Life& life) { return life.first == at; };
    const int32_t last = std::ranges::find_if(of_[static_cast<size_t>(id)][0], run_at)->last;
    const Value base = n.inputs[static_cast<size_t>(n.op->view_of)];
    const auto from = static_cast<size_t>(base.node);
    const auto output = static_cast<size_t>(base.output);
    last_read_[from][output] = std::max(last_read_[from][output], last);
    // The life in which the view was made.
    Life* seen = nullptr;
    for (Life& life : of_[from][output]) {
      if (life.first < at) seen = &life;
    }
    if (seen != nullptr) seen->last = std::max(seen->last, last);
  }
}

}  // namespace graft
