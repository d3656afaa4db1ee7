// A piece of forward between two values through which everything must pass, with its backward.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/plan/chain.h"

namespace graft {

// Values and runs by number, so that equal pieces of a model are equal here. Views are what they
// look at.
struct Segment {
  struct Run {
    std::vector<int32_t> reads, writes;
    uint32_t overwrites = 0;  // bit i: its first result may stand where reads[i] stood
    int64_t workspace = 0;    // bytes
    double cost = 0;          // of running it again; infinite where it must not
    bool operator==(const Run&) const = default;
  };
  std::vector<int64_t> bytes;  // of each value
  int32_t input = -1, output = -1;
  std::vector<Run> forward, backward;
  std::vector<int32_t> entering;  // of backward: made before, read here
  std::vector<int32_t> leaving;   // of backward: made here, read later
  int64_t left = 0;               // of these, what more than the next segment's backward outlasts
  bool operator==(const Segment&) const = default;
};

// A set of kept values, and what comes of it.
struct SegmentOption {
  std::vector<bool> kept;  // [value]
  KeepOption option;
};

// What its backward takes when these values are kept.
KeepOption replay(const Segment& segment, const std::vector<bool>& kept);

// The ways to keep that are worth a thought: none of them is beaten by another in everything.
std::vector<SegmentOption> options_of(const Segment& segment);

// The link of a chain for it, without options.
ChainLink link_of(const Segment& segment);

}  // namespace graft
