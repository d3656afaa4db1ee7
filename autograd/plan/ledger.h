// What running a node does to the bytes that are alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "autograd/graph.h"
#include "autograd/plan/scratch.h"

namespace graft {

// Of an order of nodes. Keeps references to all that it is made of.
class Ledger {
 public:
  // What a node adds while it runs, and what it leaves behind.
  struct Change {
    int64_t peak = 0, net = 0;
  };

  Ledger(const Graph& graph, const std::vector<int32_t>& order, const Scratch& scratch);

  // Values, by index.
  const std::vector<size_t>& reads(int32_t id) const { return reads_[static_cast<size_t>(id)]; }
  bool ends(int32_t id, size_t v) const { return last_reader_[v] == id; }
  void set_last_reader(size_t v, int32_t id) { last_reader_[v] = id; }

  Change change(int32_t id) const;

 private:
  static constexpr int32_t kNobody = -1, kResult = -2;  // of a value that lives to the end
  size_t index(Value v) const {
    return first_[static_cast<size_t>(v.node)] + static_cast<size_t>(v.output);
  }

  const Graph& graph_;
  std::vector<size_t> first_;   // [node]: index of its first output
  std::vector<int64_t> bytes_;  // [value]: 0 for what has no bytes of its own that come and go
  const Scratch& scratch_;
  std::vector<int32_t> last_reader_;
  std::vector<std::vector<size_t>> reads_;  // [node]: distinct, views looked through
};

}  // namespace graft
