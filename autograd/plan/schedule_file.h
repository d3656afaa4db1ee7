// A program as a file that others can replay and judge.
#pragma once

#include "autograd/program.h"
#include "core/json.h"

namespace graft {

// One run of the program: buffers, values, nodes, steps, bytes and operations, format 1. Leaves and
// what is computed once are nodes that run first, without operations; a value that is copied into a
// parameter at the end is a node "write". The caller adds what it knows of model and method. Throws
// GraphError for a program without a result "loss".
Json schedule_json(const Program& program);

}  // namespace graft
