// Runs the program as a user does.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "core/atomic_file.h"
#include "core/json.h"
#include "tests/support/minilm.h"
#include "tests/support/temporary_folder.h"

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

}  // namespace graft::testing
