#include "autograd/plan/min_cut.h"

#include <algorithm>

namespace graft {

int32_t FlowNetwork::add_node() {
  edges_of_.emplace_back();
  return static_cast<int32_t>(edges_of_.size()) - 1;
}

int32_t FlowNetwork::add_edge(int32_t from, int32_t to, int64_t capacity) {
  edges_of_[static_cast<size_t>(from)].push_back(static_cast<int32_t>(edges_.size()));
  edges_.push_back({to, capacity});
  edges_of_[static_cast<size_t>(to)].push_back(static_cast<int32_t>(edges_.size()));
  edges_.push_back({from, 0});
  return static_cast<int32_t>(edges_.size()) - 2;
}

bool FlowNetwork::find_levels(int32_t source, int32_t sink) {
  level_.assign(edges_of_.size(), -1);
  level_[static_cast<size_t>(source)] = 0;
  queue_.assign(1, source);
  for (size_t at = 0; at < queue_.size(); ++at) {
    const auto node = static_cast<size_t>(queue_[at]);
    for (const int32_t e : edges_of_[node]) {
      const Edge& edge = edges_[static_cast<size_t>(e)];
      int32_t& level = level_[static_cast<size_t>(edge.to)];
      if (edge.left == 0 || level >= 0) continue;
      level = level_[node] + 1;
      queue_.push_back(edge.to);
    }
  }
  return level_[static_cast<size_t>(sink)] >= 0;
}

// One path of a level graph at a time, without recursion: it may be as long as the model is deep.
int64_t FlowNetwork::push(int32_t source, int32_t sink, int64_t limit) {
  std::vector<int32_t>& path = path_;  // edges
  path.clear();
  int32_t node = source;
  while (node != sink) {
    auto& next = next_[static_cast<size_t>(node)];
    const auto& edges = edges_of_[static_cast<size_t>(node)];
    const auto fits = [&](int32_t e) {
      const Edge& edge = edges_[static_cast<size_t>(e)];
      return edge.left > 0 &&
             level_[static_cast<size_t>(edge.to)] == level_[static_cast<size_t>(node)] + 1;
    };
    while (next < static_cast<int32_t>(edges.size()) && !fits(edges[static_cast<size_t>(next)]))
      ++next;
    if (next < static_cast<int32_t>(edges.size())) {
      path.push_back(edges[static_cast<size_t>(next)]);
      node = edges_[static_cast<size_t>(path.back())].to;
      continue;
    }
    if (path.empty()) return 0;
    const int32_t back = path.back();
    path.pop_back();
    node = edges_[static_cast<size_t>(back ^ 1)].to;
    ++next_[static_cast<size_t>(node)];
  }
  for (const int32_t e : path) limit = std::min(limit, edges_[static_cast<size_t>(e)].left);
  for (const int32_t e : path) {
    edges_[static_cast<size_t>(e)].left -= limit;
    edges_[static_cast<size_t>(e ^ 1)].left += limit;
  }
  return limit;
}

int64_t FlowNetwork::maximize(int32_t source, int32_t sink) {
  for (Edge& edge : edges_) edge.left = edge.capacity;
  int64_t flow = 0;
  while (flow < kInfinite && find_levels(source, sink)) {
    next_.assign(edges_of_.size(), 0);
    while (const int64_t more = push(source, sink, kInfinite)) {
      flow += more;
      if (flow >= kInfinite) break;
    }
  }
  return flow;
}

std::vector<bool> FlowNetwork::sink_side(int32_t sink) const {
  std::vector<bool> reaches(edges_of_.size(), false);
  reaches[static_cast<size_t>(sink)] = true;
  std::vector<int32_t> queue{sink};
  for (size_t at = 0; at < queue.size(); ++at) {
    for (const int32_t e : edges_of_[static_cast<size_t>(queue[at])]) {
      // The reverse of an edge that leaves this node leads into it.
      const Edge& into = edges_[static_cast<size_t>(e ^ 1)];
      const auto from = static_cast<size_t>(edges_[static_cast<size_t>(e)].to);
      if (into.left == 0 || reaches[from]) continue;
      reaches[from] = true;
      queue.push_back(static_cast<int32_t>(from));
    }
  }
  return reaches;
}

}  // namespace graft
