// What a plan looks like: memory over the runs of a step, and its peak against recomputation.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "autograd/planner.h"
#include "core/json.h"

namespace graft {

// Bytes alive at each run of a node: {"runs": [{"phase", "layer", "op", "path", "bytes"}], ...}.
Json timeline_json(const Program& program);
std::string timeline_svg(const Program& program, const std::string& title);

// One way to plan a step.
struct Recomputed {
  std::string name;
  size_t peak_bytes;
  double recompute_flops, forward_flops;  // of all runs after a node's first, of all first ones
  double share() const { return forward_flops > 0 ? recompute_flops / forward_flops : 0; }
};
struct NamedOptions {
  std::string name;
  PlanOptions options;
};
// Plans the graph of a program in each of the ways.
std::vector<Recomputed> recompute_curve(const Program& program, std::span<const NamedOptions> ways);
Json curve_json(std::span<const Recomputed> points);
std::string curve_svg(std::span<const Recomputed> points, const std::string& title);

}  // namespace graft
