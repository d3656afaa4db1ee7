// A file's bytes in memory without reading it. The mapping is private: whoever writes to it changes
// a copy of the page, never the file. Replacing the file by renaming, as AtomicFile does, leaves
// the mapping whole; a program that shortens the file in place takes the bytes away under the
// reader (SIGBUS).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace graft {

class MappedFile {
 public:
  // Throws FileError when the file cannot be opened or mapped.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile() = default;
  std::string path_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace graft
