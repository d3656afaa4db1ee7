// Cuts a joint graph into the segments of chains: forward where a single value passes, backward
// where it reads them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "autograd/graph.h"
#include "autograd/plan/scratch.h"
#include "autograd/plan/segment.h"

namespace graft {

// A stretch of forward in the order of execution and the backward that follows it: a micro-batch.
struct Section {
  struct Piece {
    int32_t first = 0, end = 0;  // positions in `forward`
    int32_t kind = 0;            // of the segmentation's kinds
    Value input;                 // what passes into it; absent for the first
    std::vector<Value> values;   // by the kind's numbers; absent where it is not of forward
  };
  std::vector<int32_t> forward, backward;  // nodes
  std::vector<int32_t> piece_of;           // [backward]: whose values it reads; -1: behind all
  std::vector<Piece> pieces;
};

struct Segmentation {
  std::vector<Section> sections;
  std::vector<Segment> kinds;  // equal pieces are of one kind
  std::vector<Value> always;   // kept where they are read again: results, what many segments read
};

// Operations that the time of a node is worth: a byte moved counts as several of them.
double predicted_cost(const Graph& graph, const Node& node);

// `order`: nodes as they are executed. `keeps`: whether a value that reaches over many segments is
// kept for all of them; where it is not, what reads it is not run again.
Segmentation cut_into_segments(const Graph& graph, const std::vector<int32_t>& order,
                               const Scratch& scratch, const std::function<bool(Value)>& keeps);

}  // namespace graft
