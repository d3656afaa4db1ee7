// The parts of a drawn graph (autograd/draw.h) as DOT attributes: what a node, a box or the legend
// looks like.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "autograd/draw.h"
#include "autograd/draw_folding.h"

namespace graft::draw {

inline constexpr std::string_view kRewired = "#d95f0e", kKept = "#7aa6d1";  // edges

std::string_view shade(Phase phase);
std::string quoted(std::string_view text);  // a DOT string
// Floats go without their type: nearly everything is f32.
std::string short_type(const Type& type);
// A name without the modules that it shares with where it is read.
std::string relative(const std::string& name, const std::string& at);

// `shown`: scope of the frame around it. params: those that it reads.
std::string label(const Node& node, Change change, const std::vector<const Param*>& params,
                  Detail detail, const std::string& shown);
std::string label(const Box& box, const std::string& shown);
std::string result_label(const std::string& name, const std::string& shown);

// What occurs in a picture; the legend explains that alone.
struct Occurs {
  bool frozen = false, trainable = false, added = false, reparametrized = false, rewired = false,
       kept = false;
};
std::string legend(const std::string& title, const Occurs& occurs);

}  // namespace graft::draw
