// The main program of a bench: options, and errors as text.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace graft::bench {

// Declares options, which hold their defaults, and runs what it returns once they are read.
using Declare = std::function<std::function<void()>(CLI::App& command)>;

int bench_main(int argc, char** argv, const Declare& declare);

}  // namespace graft::bench
