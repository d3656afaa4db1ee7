// Where the golden data is, and how values are compared with it (tests/golden/README.md).
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "core/tensor.h"

namespace graft::testing {

// $GRAFT_GOLDEN, or tests/golden/data of the source tree.
std::string golden_dir();

// Empty when |got - want| <= atol + rtol |want| everywhere (infinities and NaN must match), else
// what is wrong, with the worst place.
std::string mismatch(const Tensor& got, const Tensor& want, double rtol, double atol);

}  // namespace graft::testing
