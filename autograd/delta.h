// What a rewrite of a graph changed.
#pragma once

#include <string>
#include <vector>

#include "autograd/graph.h"

namespace graft {

// What a rewrite changed, in the node numbers of the new graph. Reports and pictures are drawn from
// it.
struct Delta {
  std::vector<int32_t> added;  // new nodes
  std::vector<Use> rewired;    // inputs of old nodes that read something else now
  std::vector<std::string> new_params;
  std::vector<std::string> frozen, unfrozen;  // parameters whose trainability changed
  std::vector<int32_t> origin;                // [node]: its number in the old graph; -1: added
};
// Two rewrites, one after the other, as one; parameters that the second one drops stay listed.
Delta then(const Delta& first, const Delta& second);

}  // namespace graft
