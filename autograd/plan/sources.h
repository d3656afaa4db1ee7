// Whose bytes a value is read in.
#pragma once

#include <map>
#include <string_view>

#include "autograd/graph.h"

namespace graft {

bool is_view(const Node& node);
// Whether an output is an input changed where it stands.
bool in_place(const Node& node, size_t output);
// Whether some output is.
bool changes_state(const Node& node);
// What a view looks at, or the value itself.
Value base_of(const Graph& graph, Value v);

// The base of a value; of a parameter the first of its leaves, which may be several.
class Sources {
 public:
  explicit Sources(const Graph& graph);
  Value of(Value v) const;

 private:
  const Graph& graph_;
  std::map<std::string_view, Value> leaf_;
};

}  // namespace graft
