// Runs the program as a user does.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "core/atomic_file.h"
#include "core/json.h"
#include "tests/support/minilm.h"

namespace graft::testing {

struct Result {
  int status;
  std::string output;
  Json json() const { return parse_json(output, "output"); }
};

enum class Streams { both, out };

inline Result graft(const std::string& arguments, Streams streams = Streams::both) {
  const std::string command = std::string(GRAFT_PROGRAM) + " " + arguments +
                              (streams == Streams::both ? " 2>&1" : " 2>/dev/null");
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  return {WEXITSTATUS(pclose(pipe)), output};
}

inline std::string minilm_option() { return " --model " + minilm_folder(); }

// A folder that is gone afterwards.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("graft-{}-{}", name, ::getpid())) {
    make_folders(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace graft::testing
