#include "tests/support/minilm.h"

#include <cstdlib>
#include <filesystem>

#include "core/error.h"

namespace graft::testing {

std::string minilm_folder() {
  const char* dir = std::getenv("GRAFT_MINILM");
  std::string folder = dir != nullptr ? dir : std::string(GRAFT_SOURCE_DIR) + "/build/minilm";
  if (!std::filesystem::exists(folder + "/config.json")) {
    throw FileError(
        "all-MiniLM-L6-v2 is not in '{}'; ./test installs it, or set GRAFT_MINILM to its folder",
        folder);
  }
  return folder;
}

}  // namespace graft::testing
