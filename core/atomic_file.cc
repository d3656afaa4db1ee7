#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/mapped_file.h"

namespace graft {
namespace {

const char* advice(int error) {
  switch (error) {
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
      return "; make room or choose another folder (nothing was changed)";
    case ENOENT:
      return "; does the folder exist?";
    case EACCES:
    case EPERM:
    case EROFS:
      return "; choose a folder that you may write to";
    default:
      return "";
  }
}

// A name of our own in the same folder, so that the rename stays in one file system. O_EXCL refuses
// what others put there, symbolic links included.
int create_beside(const std::string& path, mode_t mode, std::string& name) {
  static std::atomic<unsigned> counter{0};
  int fd = -1;
  do {
    name = fmt::format("{}.partial-{}-{}", path, ::getpid(), counter++);
    fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EEXIST);
  return fd;
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  std::error_code none;
  if (std::filesystem::is_symlink(path_, none)) {
    const auto target = std::filesystem::canonical(path_, none);
    if (!none) path_ = target.string();
  }
  struct stat old {};
  const bool exists = ::stat(path_.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    throw FileError("cannot write '{}': it is {}; give the name of a file", path_,
                    S_ISDIR(old.st_mode) ? "a folder" : "not a regular file");
  }
  fd_ = create_beside(path_, 0666, temporary_);
  if (fd_ < 0) fail("create", errno);
  // Best effort: a file system without permissions is no reason to refuse.
  if (exists) static_cast<void>(::fchmod(fd_, old.st_mode & 0777));
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* what, int error) const {
  throw FileError("cannot {} '{}': {}{}", what, path_, std::strerror(error), advice(error));
}

void AtomicFile::write(const void* bytes, size_t size) {
  const char* p = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t n = ::write(fd_, p, std::min<size_t>(size, size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", errno);
    p += n;
    size -= static_cast<size_t>(n);
  }
}

void AtomicFile::sync() {
  if (fd_ < 0) return;
  if (::fsync(fd_) != 0) fail("write", errno);
  if (::close(std::exchange(fd_, -1)) != 0) fail("write", errno);
}

void AtomicFile::commit() {
  sync();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("replace", errno);
  temporary_.clear();
  // The rename itself is on disk once the folder is. Not every file system can sync a folder, and
  // the file is in its place either way.
  std::string folder = std::filesystem::path(path_).parent_path().string();
  if (folder.empty()) folder = ".";
  if (const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); dir >= 0) {
    ::fsync(dir);
    ::close(dir);
  }
}

void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::string read_file(const std::string& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void make_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw FileError("cannot create the folder '{}': {}{}", path, error.message(),
                    advice(error.value()));
  }
}

}  // namespace graft
