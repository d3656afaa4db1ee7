// Tests of damaged files: each message says what was expected, what came, and where.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {

// A field of a good file as it should not be, and parts of what is said about it.
struct Change {
  const char *field, *value;  // a JSON value; null: the field is taken out
  std::vector<const char*> message;
};

inline void expect_parts(const std::string& error, const std::vector<const char*>& parts) {
  for (const char* part : parts) {
    EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
  }
}

inline std::string bert_folder() { return golden_dir() + "/models/bert_cls"; }

}  // namespace graft::testing
