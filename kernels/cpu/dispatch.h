// Choosing the instruction set of a kernel. Include after hwy/highway.h.
#pragma once

#include "hwy/highway.h"

// The function of the best target that this CPU supports (or that a test allows), taken once,
// outside of loops and threads.
#define GRAFT_DISPATCH(Name) (&HWY_DYNAMIC_DISPATCH(Name))
