// Offsets of buffers in one arena.
#pragma once

#include "autograd/program.h"

namespace graft {

// Whether a buffer comes and goes: what is given a place here.
bool in_arena(const Program::Buffer& buffer);
// What so many bytes take there: every buffer begins where a vector may.
size_t aligned_in_arena(size_t bytes);

// Says when each buffer of the arena is alive, as the steps of the program have it, and gives it a
// place that nothing else has meanwhile; sets arena_bytes and live_bytes. `to_the_end`: [buffer],
// those that hold results.
void lay_out(Program& program, const std::vector<bool>& to_the_end);

}  // namespace graft
