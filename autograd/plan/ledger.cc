#include "autograd/plan/ledger.h"

#include <algorithm>

#include "autograd/op.h"
#include "autograd/plan/sources.h"

namespace graft {

Ledger::Ledger(const Graph& graph, const std::vector<int32_t>& order, const Scratch& scratch)
    : graph_(graph), scratch_(scratch) {
  const size_t count = graph.nodes().size();
  std::vector<bool> runs(count, false);
  for (const int32_t id : order) runs[static_cast<size_t>(id)] = true;
  first_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const Node& n = graph.nodes()[i];
    first_.push_back(bytes_.size());
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const bool own = runs[i] && !is_view(n) && !in_place(n, k);
      bytes_.push_back(own ? static_cast<int64_t>(n.outputs[k].bytes()) : 0);
    }
  }
  last_reader_.assign(bytes_.size(), -1);
  reads_.resize(count);
  for (const int32_t id : order) {
    auto& mine = reads_[static_cast<size_t>(id)];
    if (is_view(graph.node(id))) continue;
    for (const Value v : graph.node(id).inputs) {
      if (v.valid() && bytes_[index(base_of(graph, v))] > 0)
        mine.push_back(index(base_of(graph, v)));
    }
    std::ranges::sort(mine);
    mine.erase(std::unique(mine.begin(), mine.end()), mine.end());
    for (const size_t v : mine) last_reader_[v] = id;
  }
  for (const Value v : graph.results()) last_reader_[index(base_of(graph, v))] = kResult;
}

Ledger::Change Ledger::change(int32_t id) const {
  const Node& n = graph_.node(id);
  Change c{.peak = scratch_[static_cast<size_t>(id)]};
  for (size_t k = 0; k < n.outputs.size(); ++k) {
    const size_t v = first_[static_cast<size_t>(id)] + k;
    c.peak += bytes_[v];
    if (last_reader_[v] != kNobody) c.net += bytes_[v];
  }
  for (const size_t v : reads(id)) {
    if (ends(id, v)) c.net -= bytes_[v];
  }
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    const Value v = n.inputs[i];
    if (!n.op->may_overwrite(i) || !v.valid() || graph_.type(v) != n.outputs[0]) continue;
    if (!ends(id, index(base_of(graph_, v)))) continue;
    c.peak -= bytes_[first_[static_cast<size_t>(id)]];
    break;
  }
  return c;
}

}  // namespace graft
