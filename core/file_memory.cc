#include "core/file_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace graft {

std::shared_ptr<void> allocate_in_folder(const std::string& folder, size_t bytes) {
  std::string path = folder + "/graft-XXXXXX";
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0)
    throw FileError(
        "cannot make a file in '{}': {}; memory can be offloaded to a folder that "
        "takes files",
        folder, std::strerror(errno));
  // Whatever happens to the process, nothing stays behind.
  unlink(path.c_str());
  const size_t size = std::max<size_t>(bytes, 1);
  const int full = posix_fallocate(fd, 0, static_cast<off_t>(size));
  if (full != 0) {
    ::close(fd);
    throw FileError("cannot take {} bytes in '{}': {}", size, folder, std::strerror(full));
  }
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (p == MAP_FAILED)
    throw FileError("cannot map {} bytes in '{}': {}", size, folder, std::strerror(error));
  return {p, [size](void* q) { munmap(q, size); }};
}

}  // namespace graft
