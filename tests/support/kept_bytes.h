// What a program keeps of forward for backward.
#pragma once

#include <cstddef>

#include "autograd/program.h"

namespace graft::testing {

// Bytes alive in the arena as backward begins.
size_t kept_bytes(const Program& program);

}  // namespace graft::testing
