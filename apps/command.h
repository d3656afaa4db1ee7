// What the commands of the program share: options that several take, output, interruption.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "autograd/planner.h"
#include "core/json.h"
#include "train/trainer.h"

namespace graft {

// Each adds its commands to the program; a command runs while the command line is parsed.
void add_train_commands(CLI::App& app);  // tune, compare
void add_model_commands(CLI::App& app);  // eval, embed, merge
void add_plan_command(CLI::App& app);
void add_methods_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_data_commands(CLI::App& app);  // data, encode, train-tokenizer, inspect
void add_graph_command(CLI::App& app);
void add_generate_command(CLI::App& app);

// Of every command.
struct CommonOptions {
  bool json = false;
  int threads = 0;  // 0: all cores
  int64_t seed = 0;
  std::string device = "cpu", precision = "fp32";
};
void add_common_options(CLI::App& command, CommonOptions& options);
// Throws where a device or a precision is asked for that this build does not have.
void begin(const CommonOptions& options);

// A command whose options are a struct with a member `common`; run(options) does the work.
template <typename Options>
std::pair<CLI::App*, std::shared_ptr<Options>> add_command(CLI::App& app, const char* name,
                                                           const char* description,
                                                           void (*run)(const Options&)) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(name, description);
  add_common_options(*command, options->common);
  command->callback([options, run] {
    begin(options->common);
    run(*options);
  });
  return {command, options};
}

struct MethodOptions {
  std::string method = "lora";   // a name, or a Hugging Face adapter_config.json
  std::vector<std::string> set;  // key=value
};
void add_method_options(CLI::App& command, MethodOptions& options);
// The method and its hyperparameters as given: those of a file, then those of --set.
std::pair<const peft::Method*, Json> method_of(const MethodOptions& options);

void add_model_option(CLI::App& command, std::string& model);
void add_task_options(CLI::App& command, std::string& spec, TaskOptions& options);
// The rows of a task for that model: of pictures if it reads those.
Task task_of(const ModelConfig& model, const std::string& spec, TaskOptions options);
void add_chat_template_option(CLI::App& command, std::string& name);
struct MemoryOptions {
  std::string budget, recompute, offload;  // as given; empty: not
};
void add_memory_options(CLI::App& command, MemoryOptions& options);
void add_offload_option(CLI::App& command, MemoryOptions& options);
PlanOptions plan_options(const MemoryOptions& options);
// How gradients become updates.
void add_optimizer_options(CLI::App& command, StepOptions& options);
void add_recipe_options(CLI::App& command, TrainOptions& options);
void add_dropout_option(CLI::App& command, bool& dropout);
// "auto" (the memory that is free), or bytes with an optional K, M or G.
size_t parse_budget(const std::string& text);

// One object on standard output.
void print_json(const Json& json);

// A bar that redraws itself on a terminal, a line now and then elsewhere; on standard error. Says
// false after Ctrl-C.
std::function<bool(const StepReport&)> progress_of(const std::string& name);
bool interrupted();
void catch_interrupts();  // SIGINT and SIGTERM

// Thrown when a user's Ctrl-C has ended the work early; the message says what was kept.
class Interrupted : public Error {
 public:
  using Error::Error;
};

}  // namespace graft
