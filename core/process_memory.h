// What the system says of this process's memory.
#pragma once

#include <cstddef>

namespace graft {

// Bytes of memory that the process has now, and the most that it had since it began or since the
// last restart_peak(). 0 where the system does not say.
size_t resident_bytes();
size_t peak_resident_bytes();
// Of these bytes, those that are in memory now: a mapped file's come as they are read.
size_t resident_bytes(const void* bytes, size_t size);
// The peak starts again from what is resident now, after what the allocator only keeps in store has
// gone back to the system.
void restart_peak();

}  // namespace graft
