#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace graft {

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  // Without O_NONBLOCK opening a pipe would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw FileError("cannot open '{}': {}", path, std::strerror(errno));
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw FileError("'{}' is not a regular file", path);
  }
  file->size_ = static_cast<size_t>(info.st_size);
  if (file->size_ > 0) {
    // Hardly a page is ever written to: without MAP_NORESERVE a file larger than memory is refused.
    void* p =
        mmap(nullptr, file->size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    const int error = errno;
    ::close(fd);
    if (p == MAP_FAILED) throw FileError("cannot map '{}': {}", path, std::strerror(error));
    file->data_ = static_cast<std::byte*>(p);
  } else {
    ::close(fd);
  }
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace graft
