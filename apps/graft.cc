// The graft command line. Exit status: 0 done, 2 wrong usage, 3 a file, 4 a budget, 1 anything
// else.
#include <cstdio>
#include <exception>

#include "apps/command.h"
#include "core/error.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app{"graft: parameter-efficient fine-tuning as graph transformation"};
  app.require_subcommand(1);
  graft::add_train_commands(app);
  graft::add_model_commands(app);
  graft::add_plan_command(app);
  graft::add_methods_command(app);
  graft::add_bench_command(app);
  graft::add_data_commands(app);
  graft::add_graph_command(app);
  graft::add_generate_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return 0;
}

int fail(const std::exception& e, int status) {
  std::fprintf(stderr, "graft: %s\n", e.what());
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  graft::catch_interrupts();
  try {
    return run(argc, argv);
  } catch (const graft::UsageError& e) {
    return fail(e, 2);
  } catch (const graft::FileError& e) {
    return fail(e, 3);
  } catch (const graft::BudgetError& e) {
    return fail(e, 4);
  } catch (const std::exception& e) {
    return fail(e, 1);
  }
}
