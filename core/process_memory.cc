#include "core/process_memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace graft {
namespace {

size_t status_bytes(const char* field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field)) return std::stoul(line.substr(line.find(':') + 1)) * 1024;
  }
  return 0;
}

}  // namespace

size_t resident_bytes() { return status_bytes("VmRSS:"); }
size_t peak_resident_bytes() { return status_bytes("VmHWM:"); }

size_t resident_bytes(const void* bytes, size_t size) {
  // A word per page; bit 63: the page is there (Linux, admin-guide/mm/pagemap.rst).
  static const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes), end = begin + size;
  if (size == 0) return 0;
  const uintptr_t first = begin / page, last = (end - 1) / page;
  std::vector<uint64_t> words(last - first + 1);
  const size_t wanted = words.size() * sizeof(uint64_t);
  // Not a stream: the system refuses to read parts of words.
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  const ssize_t read =
      file < 0 ? -1
               : pread(file, words.data(), wanted, static_cast<off_t>(first * sizeof(uint64_t)));
  if (file >= 0) close(file);
  if (read != static_cast<ssize_t>(wanted)) return size;
  size_t resident = 0;
  for (uintptr_t p = first; p <= last; ++p) {
    if (words[p - first] >> 63 != 0)
      resident += std::min(end, (p + 1) * page) - std::max(begin, p * page);
  }
  return resident;
}

void restart_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace graft
