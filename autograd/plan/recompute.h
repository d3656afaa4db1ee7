// What backward reads of forward: kept, or computed again when it is wanted.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "autograd/graph.h"

namespace graft {

enum class Recompute : uint8_t {
  none,   // everything is kept until its last reader has run
  cheap,  // the fewest bytes are kept from which no product and no attention has to run again
};
std::string_view name_of(Recompute recompute);
// Throws UsageError for a name that is none of them.
Recompute recompute_named(std::string_view name);

// The runs of a program: `order` with nodes of forward again among those of backward, each just
// before the first that reads it.
std::vector<int32_t> with_recomputation(const Graph& graph, const std::vector<int32_t>& order,
                                        Recompute recompute);

}  // namespace graft
