// The main program of a bench: options, and errors as text.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace graft::bench {

// A command line whose help shows what options hold by default.
class Command : public CLI::App {
 public:
  Command() { option_defaults()->always_capture_default(); }
  // Reads the options, then runs; returns the exit status.
  int main(int argc, char** argv, const std::function<void()>& run);
};

}  // namespace graft::bench
