// graft tune and graft compare.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include "apps/command.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "models/save_model.h"
#include "peft/adapter_files.h"
#include "train/compare.h"

namespace graft {
namespace {

struct TrainCommand {
  CommonOptions common;
  MemoryOptions memory;
  std::string model, task, output;
  TaskOptions data;
  TrainOptions train;
};

void add_options(CLI::App& command, TrainCommand& o) {
  add_model_option(command, o.model);
  add_task_options(command, o.task, o.data);
  command.add_option("--train-size", o.data.train_size, "use the first N training rows")
      ->check(CLI::PositiveNumber);
  add_recipe_options(command, o.train);
  command.add_option("--lr", o.train.lr, "learning rate of everything but the head")
      ->check(CLI::PositiveNumber);
  add_memory_options(command, o.memory);
  add_offload_option(command, o.memory);
  command.add_option("--output", o.output, "folder to write to")->required();
}

// What it takes to repeat a run, and what came out of it.
Json run_record(const TrainCommand& o, const TrainOptions& train, const Trainer& trainer,
                const TrainResult& result) {
  Json j = to_json(result);
  j["model"] = o.model;
  j["task"] = o.task;
  j["hyperparameters"] = trainer.adapted().config;
  j["recipe"] = {{"steps", train.steps},
                 {"batch", train.batch},
                 {"accumulate", train.accumulate},
                 {"seed", train.seed},
                 {"lr", train.lr > 0 ? train.lr : trainer.method().learning_rate},
                 {"head_lr", train.head_lr},
                 {"weight_decay", train.weight_decay},
                 {"max_grad_norm", train.max_grad_norm},
                 {"optim", train.optim},
                 {"dropout", train.dropout},
                 {"eval_every", train.eval_every},
                 {"keep_best", train.keep_best},
                 {"recompute", name_of(train.memory.recompute)},
                 {"budget", train.memory.budget},
                 {"from_scratch", train.from_scratch}};
  j["data"] = {{"max_length", o.data.max_length},
               {"train_size", o.data.train_size},
               {"text_column", o.data.text_column},
               {"text_pair_column", o.data.text_pair_column},
               {"label_column", o.data.label_column},
               {"prompt_column", o.data.prompt_column},
               {"completion_column", o.data.completion_column},
               {"messages_column", o.data.messages_column},
               {"chat_template", o.data.chat_template},
               {"train", o.data.train},
               {"dev", o.data.dev},
               {"test", o.data.test},
               {"also_test", o.data.also_test},
               {"text_to_text", o.data.text_to_text},
               {"classes", o.data.classes},
               {"regression", o.data.regression},
               {"metric", o.data.metric}};
  return j;
}

// The adapter, or where all of the model has changed the model; run.json and curves.csv. Returns
// the bytes of what was trained.
size_t write_run(const std::string& folder, const TrainCommand& o, const TrainOptions& train,
                 const Task& task, Trainer& trainer, const TrainResult& result) {
  const peft::Adapted& adapted = trainer.adapted();
  size_t bytes = 0;
  if (trainer.method().name == "full") {
    Json config = parse_json_file(o.model + "/config.json");
    if (task.trained_as() != TaskKind::language) name_labels(config, task.outputs(), task.labels);
    for (const std::string& file :
         save_model(folder, o.model, config, adapted.graph, trainer.params())) {
      bytes += std::filesystem::file_size(folder + "/" + file);
    }
  } else {
    peft::save_adapter(folder, trainer.method(), adapted.config, adapted.graph, trainer.params(),
                       o.model, std::string(trainer.task_type()));
    bytes = std::filesystem::file_size(folder + "/adapter_model.safetensors");
  }
  write_file(folder + "/curves.csv", curve_csv(result));
  write_json_file(folder + "/run.json", run_record(o, train, trainer, result));
  return bytes;
}

Comparison comparison_of(const Task& task, const TrainOptions& train) {
  return {.task = task.name,
          .metric = task.metric,
          .steps = train.steps,
          .batch = train.batch,
          .also = task.also_name};
}

struct Tune : TrainCommand {
  MethodOptions method;
};

void run_tune(const Tune& o) {
  const auto [method, set] = method_of(o.method);
  if (o.train.from_scratch && method->name != "full") {
    throw UsageError(
        "--from-scratch begins with weights that only training makes useful, and '{}' does not "
        "train them all; use --method full",
        method->name);
  }
  const ModelConfig model = load_config(o.model);
  const Task task = task_of(model, o.task, o.data);
  make_folders(o.output);
  TrainOptions train = o.train;
  train.seed = o.common.seed;
  train.memory = plan_options(o.memory);
  train.offload = o.memory.offload;
  train.checkpoint = o.output + "/checkpoint.safetensors";
  Trainer trainer(model, task, *method, set, train);
  const TrainResult r = trainer.train(progress_of(std::string(method->name)));
  if (r.interrupted) {
    throw Interrupted(
        fmt::format("interrupted after {} of {} steps; the same command with "
                    "--resume goes on from {}",
                    r.steps, train.steps, train.checkpoint));
  }
  const size_t bytes = write_run(o.output, o, train, task, trainer, r);
  if (o.common.json) {
    print_json(run_record(o, train, trainer, r));
    return;
  }
  Comparison one = comparison_of(task, train);
  one.methods.push_back({{r}, bytes});
  std::cout << table_of(one)
            << fmt::format("beside the model: {:.1f} MB planned, {:.1f} MB in the process\n",
                           static_cast<double>(r.planned_over_model_bytes) / 1e6,
                           static_cast<double>(r.rss_over_model_bytes) / 1e6)
            << (method->name == "full" ? "model" : "adapter") << " written to " << o.output << "\n";
  if (train.profile) std::cout << profile_table(r);
}

struct Compare : TrainCommand {
  std::vector<std::string> methods = {"all"};
  int64_t seeds = 1;
};

// A method of a comparison; one that `all` stands for is left out where it does not fit.
struct Candidate {
  const peft::Method* method;
  bool named;
};

std::vector<Candidate> candidates_of(const std::vector<std::string>& names) {
  std::vector<Candidate> candidates;
  for (const std::string& name : names) {
    if (name != "all") candidates.push_back({&peft::find_method(name), true});
  }
  if (std::ranges::find(names, "all") == names.end()) return candidates;
  for (const peft::Method& m : peft::all_methods()) {
    if (std::ranges::find(candidates, &m, &Candidate::method) == candidates.end())
      candidates.push_back({&m, false});
  }
  return candidates;
}

// Those that fit the model and the task, known before the first one is trained.
std::vector<const peft::Method*> fitting(const Compare& o, const ModelConfig& model,
                                         const Task& task, std::vector<LeftOut>& left_out) {
  // A model that does not fit the task says so here, whatever the method.
  const Trainer base(model, task, peft::find_method("head"), Json::object(), o.train);
  std::vector<const peft::Method*> methods;
  for (const auto& [method, named] : candidates_of(o.methods)) {
    try {
      Trainer(model, task, *method, Json::object(), o.train).expect_trainable();
      methods.push_back(method);
    } catch (const UsageError& e) {
      if (named) throw;
      left_out.push_back({std::string(method->name), e.what()});
    }
  }
  return methods;
}

// All seeds of a method; nothing when the user has interrupted it.
std::optional<ComparedMethod> train_seeds(const Compare& o, const ModelConfig& model,
                                          const Task& task, const peft::Method& method) {
  ComparedMethod compared;
  for (int64_t k = 0; k < o.seeds; ++k) {
    TrainOptions train = o.train;
    train.seed = o.common.seed + k;
    train.memory = plan_options(o.memory);
    train.offload = o.memory.offload;
    Trainer trainer(model, task, method, Json::object(), train);
    const std::string name(method.name);
    compared.seeds.push_back(trainer.train(
        progress_of(o.seeds > 1 ? fmt::format("{} ({}/{})", name, k + 1, o.seeds) : name)));
    if (compared.seeds.back().interrupted) return std::nullopt;
    const std::string folder = fmt::format("{}/{}{}", o.output, name,
                                           o.seeds > 1 ? fmt::format("/seed{}", train.seed) : "");
    compared.storage_bytes = write_run(folder, o, train, task, trainer, compared.seeds.back());
  }
  return compared;
}

// The model without any adapter, evaluated once to warm up and once for the clock.
void measure_base(const Compare& o, const ModelConfig& model, const Task& task, Comparison& all) {
  Trainer base(model, task, peft::find_method("head"), Json::object(), o.train);
  const auto metrics = base.evaluate(task.test);
  base.evaluate(task.test, &all.base_seconds);
  if (task.trained_as() != TaskKind::language) return;  // its head knows nothing yet
  all.base = metrics;
  if (!task.also.empty()) all.base_also = base.evaluate(task.also);
}

void run_compare(const Compare& o) {
  const ModelConfig model = load_config(o.model);
  const Task task = task_of(model, o.task, o.data);
  Comparison all = comparison_of(task, o.train);
  const std::vector<const peft::Method*> methods = fitting(o, model, task, all.left_out);
  make_folders(o.output);
  measure_base(o, model, task, all);
  for (const peft::Method* m : methods) {
    auto compared = train_seeds(o, model, task, *m);
    if (!compared) break;
    all.methods.push_back(std::move(*compared));
  }
  write_json_file(o.output + "/results.json", to_json(all));
  write_file(o.output + "/report.html", report_page(all));
  if (o.common.json) {
    print_json(to_json(all));
  } else {
    std::cout << table_of(all) << "report: " << o.output << "/report.html\n";
  }
  if (all.methods.size() < methods.size()) {
    throw Interrupted(
        fmt::format("interrupted while '{}' was trained; the {} methods before it "
                    "are in {}",
                    methods[all.methods.size()]->name, all.methods.size(), o.output));
  }
}

}  // namespace

void add_train_commands(CLI::App& app) {
  const auto [tune, t] =
      add_command<Tune>(app, "tune", "fine-tune a model with a method", run_tune);
  add_options(*tune, *t);
  add_method_options(*tune, t->method);
  tune->add_flag("--from-scratch", t->train.from_scratch,
                 "draw the model's weights: its folder has a config.json, but no weights");
  tune->add_option("--save-every", t->train.save_every, "steps between checkpoints")
      ->check(CLI::PositiveNumber);
  tune->add_flag("--resume", t->train.resume, "go on from the checkpoint in the output folder");
  tune->add_flag("--profile", t->train.profile, "print where the time of a step goes");

  const auto [compare, c] = add_command<Compare>(
      app, "compare", "train several methods under one recipe and compare them", run_compare);
  add_options(*compare, *c);
  compare->add_option("--methods", c->methods, "names separated by commas, or all: those that fit")
      ->delimiter(',');
  compare->add_option("--seeds", c->seeds, "runs per method, with seeds that follow each other")
      ->check(CLI::PositiveNumber);
}

}  // namespace graft
