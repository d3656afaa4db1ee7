#include "bench/main.h"

#include <fmt/format.h>

#include <exception>

namespace graft::bench {

int bench_main(int argc, char** argv, const Declare& declare) {
  CLI::App command;
  command.option_defaults()->always_capture_default();
  const std::function<void()> run = declare(command);
  CLI11_PARSE(command, argc, argv);
  try {
    run();
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace graft::bench
