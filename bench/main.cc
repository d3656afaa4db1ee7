#include "bench/main.h"

#include <fmt/format.h>

#include <exception>

namespace graft::bench {

int Command::main(int argc, char** argv, const std::function<void()>& run) {
  CLI11_PARSE(*this, argc, argv);
  try {
    run();
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace graft::bench
