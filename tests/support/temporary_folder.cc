#include "tests/support/temporary_folder.h"

#include <cstdlib>
#include <filesystem>

namespace graft::testing {

TemporaryFolder::TemporaryFolder()
    : path_(std::filesystem::temp_directory_path() / "graft-test-XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) throw FileError("cannot create '{}'", path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code none;
  std::filesystem::remove_all(path_, none);
}

size_t TemporaryFolder::entries() const {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++n;
  return n;
}

}  // namespace graft::testing
