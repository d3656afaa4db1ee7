// What a picture of a graph leaves out or draws as one box (autograd/draw.h).
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/builder.h"

namespace graft::draw {

// What a rewrite did to a node.
enum class Change : uint8_t {
  none,
  added,
  reparametrized,  // the node that stands for a weight
};
std::vector<Change> changes_of(const Graph& graph, const Delta& delta);

// The names between the dots of a scope; none for the empty one.
std::vector<std::string> path_of(std::string_view scope);
std::string join(const std::vector<std::string>& path, size_t from, size_t to);

// Whether some way from inside a set of nodes leads out and back in. readers[i]: who reads i.
bool returns(const std::set<int32_t>& inside, const std::vector<std::vector<int32_t>>& readers);

// Several nodes of one phase as one box.
struct Box {
  std::vector<std::string> path;  // of the module that holds the box
  std::string title;
  std::string same_as;  // scope of the block that is drawn for these; empty: a module as it was
  std::string family;   // scope that these blocks are numbered in
  size_t modules = 1, nodes = 0;
  int64_t trainable = 0, frozen = 0;  // numbers in the parameters read
  Phase phase = Phase::forward;
};

struct Folding {
  std::vector<Box> boxes;
  std::vector<int32_t> box;  // [node]: its box, -1: drawn itself
};

// Boxes for all but the first of equal blocks in a row, and (where there was a rewrite) for blocks
// in a row and modules of the forward pass that it left alone and that train nothing. `drawn`: the
// nodes that a picture has at all.
Folding fold_alike(const Graph& graph, const Delta& delta, const std::vector<bool>& drawn);

}  // namespace graft::draw
