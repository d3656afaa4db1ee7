// Reverse-mode differentiation as graph building: the gradient is nodes, only those that lead to
// what is wanted.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "autograd/builder.h"

namespace graft {

// d (sum_i <ys[i], cotangents[i]>) / d xs[k], as values of `b`. A scalar y may have an absent
// cotangent (1). The result is absent where no y depends on xs[k]. Nodes that do not lie on a path
// from some x to some y get no gradient node.
std::vector<Value> gradient(Builder& b, std::span<const Value> ys,
                            std::span<const Value> cotangents, std::span<const Value> xs);

// d loss / d every trainable parameter, by name; absent gradients are left out.
std::map<std::string, Value> gradient(Builder& b, Value loss);

}  // namespace graft
