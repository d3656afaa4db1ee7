// A graph as a picture: text in the DOT language, which Graphviz lays out.
//
// Every node shows its op and, below it, the parameters that it reads: grey ones are frozen, green
// ones trainable. What a rewrite added is green, what stands for a reparametrized weight orange,
// and operands that it rewired are thick edges. Modules are nested boxes, phases have their own
// shade.
#pragma once

#include <string>
#include <string_view>

#include "autograd/builder.h"

namespace graft {

enum class Detail : uint8_t {
  blocks,  // of equal blocks in a row the first; modules that a rewrite left alone as one box each;
           // no views
  all,     // every node
};
Detail detail_of(std::string_view name);  // UsageError that lists the known names

struct DrawOptions {
  Detail detail = Detail::blocks;
  std::string title;
};

// `delta`: what a rewrite changed in the graph, in its numbers. The text is stable: equal graphs
// are drawn equally.
std::string to_dot(const Graph& graph, const Delta& delta = {}, const DrawOptions& options = {});

// The lines of to_text behind a margin that says what a rewrite did: + added, ~ rewired.
std::string to_text(const Graph& graph, const Delta& delta);

}  // namespace graft
