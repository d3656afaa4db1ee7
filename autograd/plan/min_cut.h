// Maximum flow and minimum cut (Dinic 1970).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace graft {

class FlowNetwork {
 public:
  static constexpr int64_t kInfinite = INT64_MAX / 4;

  explicit FlowNetwork(int32_t nodes) : edges_of_(static_cast<size_t>(nodes)) {}
  int32_t add_node();
  // Returns its number.
  int32_t add_edge(int32_t from, int32_t to, int64_t capacity);
  void set_capacity(int32_t edge, int64_t capacity) {
    edges_[static_cast<size_t>(edge)].capacity = capacity;
  }

  // The flow under the present capacities. kInfinite or more: no finite cut parts the two.
  int64_t maximize(int32_t source, int32_t sink);
  // After maximize(): nodes from which the sink can still be reached. The edges into this set from
  // the rest are the minimum cut that lies closest to the sink.
  std::vector<bool> sink_side(int32_t sink) const;

 private:
  struct Edge {
    int32_t to;
    int64_t capacity;
    int64_t left = 0;  // of it, what is not used
  };
  bool find_levels(int32_t source, int32_t sink);
  int64_t push(int32_t source, int32_t sink, int64_t limit);

  std::vector<Edge> edges_;  // an edge and its reverse stand side by side
  std::vector<std::vector<int32_t>> edges_of_;
  std::vector<int32_t> level_, next_, queue_, path_;
};

}  // namespace graft
