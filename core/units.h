// Numbers as people read them.
#pragma once

#include <cstddef>

namespace graft {

inline double mega(size_t bytes) { return static_cast<double>(bytes) / 1e6; }

}  // namespace graft
