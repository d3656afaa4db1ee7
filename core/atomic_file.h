// Files that are whole or not there: written beside their place, synced, renamed.
#pragma once

#include <string>
#include <string_view>

namespace graft {

// The file gets its name by commit(); destroyed before that, nothing remains and an older file
// keeps its content. An older file's permissions are kept; of a symbolic link, what it points to is
// replaced.
class AtomicFile {
 public:
  // Throws FileError when the folder cannot be written, or when the path is something other than a
  // file: renaming over a device would remove it.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* bytes, size_t size);  // throws FileError (a full disk, ...)
  void write(std::string_view text) { write(text.data(), text.size()); }
  // To the disk and closed, still without the name. Files that belong together are all synced
  // before the first commit: what can fail has failed by then.
  void sync();
  void commit();

 private:
  [[noreturn]] void fail(const char* what, int error) const;
  std::string path_, temporary_;
  int fd_ = -1;
};

void write_file(const std::string& path, std::string_view content);  // atomically
std::string read_file(const std::string& path);                      // throws FileError
void make_folders(const std::string& path);  // with parents; throws FileError

}  // namespace graft
