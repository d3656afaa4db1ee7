// A folder of one test's own, and errors as text.
#pragma once

#include <string>

#include "core/error.h"

namespace graft::testing {

// Empty when made, removed with all that is in it when destroyed.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  size_t entries() const;  // files and folders directly in it

 private:
  std::string path_;
};

// What f() throws, if it is an E; "" when it throws nothing. Another exception goes on.
template <typename E = FileError, typename F>
std::string error_of(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

}  // namespace graft::testing
