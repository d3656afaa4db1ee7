// Replays a schedule file (autograd/plan/schedule_file.h) by its rules alone; knows nothing of the
// planner.
#pragma once

#include <string>

#include "core/json.h"

namespace graft::testing {

// What the file breaks first; empty: nothing.
std::string violation_of(const Json& schedule);

}  // namespace graft::testing
