// What backward reads of forward: kept, or computed again when it is wanted.
#pragma once

#include <cstdint>
#include <set>
#include <string_view>
#include <vector>

#include "autograd/graph.h"

namespace graft {

enum class Recompute : uint8_t {
  none,       // everything is kept until its last reader has run
  cheap,      // the fewest bytes are kept from which no product and no attention has to run again
  automatic,  // as little as a budget allows runs again; "auto"
};
std::string_view name_of(Recompute recompute);
// Throws UsageError for a name that is none of them.
Recompute recompute_named(std::string_view name);

// The values of forward that are kept so that no product and no attention has to run again, at the
// fewest bytes.
std::set<Value> cheaply_kept(const Graph& graph, const std::vector<int32_t>& order);

// The runs of a program: `order` with nodes of forward again among those of backward, each just
// before the first that reads it, so that what is kept is enough.
std::vector<int32_t> with_recomputation(const Graph& graph, const std::vector<int32_t>& order,
                                        const std::set<Value>& kept);

// Leaves out runs whose results nobody reads before the same node runs again, and moves updates of
// parameters behind the last run that reads the old bytes.
void tidy(const Graph& graph, std::vector<int32_t>& runs);

}  // namespace graft
