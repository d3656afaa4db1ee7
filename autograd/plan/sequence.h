// Writes down the runs of a program one after another and knows what is there to be read.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/graph.h"

namespace graft {

class Sequence {
 public:
  Sequence(const Graph& graph, const std::vector<int32_t>& order);

  // A node of the order, for the first time.
  void run(int32_t id);
  // Of what these nodes gave, only what stays to the end is there from now on.
  void forget(const std::vector<int32_t>& nodes);
  void keep(Value v) { set_there(v, true); }
  void drop(Value v) { set_there(v, false); }
  void keep_to_the_end(Value v);
  bool is_there(Value v) const { return !is_forward(v) || there_[at(v)] || always_[at(v)]; }
  // Makes a value readable here: what it is computed from runs again, each just before it is read,
  // and stays.
  void want(Value v);
  // Runs again, in their first order, what `wanted` are computed from; of all that comes by, only
  // these stay.
  void run_up_to(const std::vector<Value>& wanted);

  std::vector<int32_t> take() { return std::move(runs_); }

 private:
  size_t at(Value v) const {
    return first_[static_cast<size_t>(v.node)] + static_cast<size_t>(v.output);
  }
  bool is_forward(Value v) const {
    return v.valid() && position_[static_cast<size_t>(v.node)] >= 0;
  }
  void set_there(Value v, bool there) {
    if (is_forward(v)) there_[at(v)] = there;
  }
  // The nodes, inputs first, that have to run again for a value.
  std::vector<int32_t> missing(const std::vector<Value>& wanted);

  const Graph& graph_;
  std::vector<int32_t> position_;  // [node]: in the order; -1: not of forward
  std::vector<size_t> first_;      // [node]: of its outputs in the flags
  std::vector<bool> there_, always_;
  std::vector<bool> visited_;
  std::vector<int32_t> runs_;
};

}  // namespace graft
