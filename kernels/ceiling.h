// How fast this machine can be: the denominator of every share that benches print.
#pragma once

#include <cstddef>
#include <span>

namespace graft {

// Multiply-adds of the largest register tile with operands from L1, on `threads` threads at once,
// each by the processor time that it got: operations per second, the best moment of about `seconds`
// of work. No code that loads its operands is faster.
double multiply_add_ceiling(int threads, double seconds = 0.004);

// Reads memory once, each of `threads` threads its own stretch of it, by vector loads and nothing
// else: what a product of one row with a weight cannot be faster than. Returns a sum of all that
// was read.
float read_once(std::span<const float> memory, int threads);

}  // namespace graft
