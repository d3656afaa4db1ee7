// Fuzz targets feed bytes from anywhere to one reader of files. A reader may refuse them with a
// graft::Error; whatever else it throws, a crash or a sanitizer's report is a bug.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

// libFuzzer's entry; replay.cc calls it where there is no libFuzzer.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace graft::fuzz {

template <typename F>
int read_or_refuse(F read) {
  try {
    read();
  } catch (const Error&) {
  }
  return 0;
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// What must hold of everything that was read.
inline void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

}  // namespace graft::fuzz
