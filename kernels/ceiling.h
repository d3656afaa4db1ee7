// How fast this machine can be: the denominator of every share that benches print.
#pragma once

namespace graft {

// Multiply-adds of the largest register tile with operands from L1, on `threads` threads at once,
// each by the processor time that it got: operations per second, the best moment of about `seconds`
// of work. No code that loads its operands is faster.
double multiply_add_ceiling(int threads, double seconds = 0.004);

}  // namespace graft
