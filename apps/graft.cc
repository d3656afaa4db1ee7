// The graft command line. Exit status: 0 done, 2 wrong usage, 3 a file, 4 a budget, 1 anything
// else.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "apps/model_commands.h"
#include "core/atomic_file.h"
#include "core/parallel.h"
#include "peft/adapter_files.h"
#include "train/compare.h"
#include "train/trainer.h"

namespace graft {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

struct Common {
  bool json = false;
  int threads = 0;
  int64_t seed = 0;
  std::string model, task, output, method = "lora";
  std::vector<std::string> set;
  TrainOptions train;
  int64_t max_length = 64, train_size = 0;
};

// key=value pairs; a value is JSON where it parses as such, else a string.
Json parse_set(const std::vector<std::string>& pairs) {
  Json config = Json::object();
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) throw UsageError("--set takes key=value, got '{}'", pair);
    const std::string value = pair.substr(equals + 1);
    const Json parsed = Json::parse(value, nullptr, false);
    config[pair.substr(0, equals)] = parsed.is_discarded() ? Json(value) : parsed;
  }
  return config;
}

// A bar that redraws itself on a terminal, a line now and then elsewhere; on standard error.
std::function<bool(const StepReport&)> progress(const std::string& name) {
  const bool terminal = isatty(2) != 0;
  return [=](const StepReport& r) {
    const bool last = r.step == r.steps;
    if (terminal) {
      const int width = 30, full = static_cast<int>(r.step * width / r.steps);
      std::fprintf(
          stderr, "\r%-16s [%s%s] %4ld/%ld  loss %.4f  %5.0f tokens/s  %3.0f s left  %.0f MB%s",
          name.c_str(), std::string(static_cast<size_t>(full), '=').c_str(),
          std::string(static_cast<size_t>(width - full), ' ').c_str(), static_cast<long>(r.step),
          static_cast<long>(r.steps), r.loss, r.tokens_per_second, r.seconds_left,
          static_cast<double>(r.peak_bytes) / 1e6, last ? "\n" : "");
    } else if (last || r.step % 50 == 0) {
      std::fprintf(stderr, "%s: step %ld of %ld, loss %.4f, %.0f tokens/s, %.0f s left\n",
                   name.c_str(), static_cast<long>(r.step), static_cast<long>(r.steps), r.loss,
                   r.tokens_per_second, r.seconds_left);
    }
    std::fflush(stderr);
    return g_interrupted == 0;
  };
}

Task task_of(const Common& c) {
  return load_task(c.task, *load_tokenizer(c.model),
                   {.max_length = c.max_length, .train_size = c.train_size});
}

void run_tune(const Common& c) {
  const ModelConfig model = load_config(c.model);
  const Task task = task_of(c);
  Trainer trainer(model, task, peft::find_method(c.method), parse_set(c.set), c.train);
  const TrainResult r = trainer.train(progress(c.method));
  peft::save_adapter(c.output, trainer.method(), trainer.adapted().config, trainer.adapted().graph,
                     trainer.params(), c.model);
  Json j = to_json(r, task.metric);
  j["task"] = c.task;
  j["seed"] = c.train.seed;
  j["options"] = {{"steps", c.train.steps},
                  {"batch", c.train.batch},
                  {"lr", c.train.lr},
                  {"max_length", c.max_length},
                  {"set", parse_set(c.set)}};
  write_json_file(c.output + "/run.json", j);
  if (c.json) {
    std::cout << j.dump(2) << "\n";
  } else {
    std::cout << comparison_table({r}, task.metric, 0) << "adapter written to " << c.output << "\n";
    if (c.train.profile) std::cout << profile_table(r);
  }
  if (g_interrupted != 0)
    std::fprintf(stderr, "interrupted after %ld steps; what was learned so far is in %s\n",
                 static_cast<long>(r.steps), c.output.c_str());
}

void run_compare(const Common& c, const std::string& methods) {
  const ModelConfig model = load_config(c.model);
  const Task task = task_of(c);
  std::vector<std::string> names;
  if (methods == "all") {
    for (const peft::Method& m : peft::all_methods()) names.emplace_back(m.name);
  } else {
    for (size_t at = 0; at <= methods.size();) {
      const size_t end = std::min(methods.find(',', at), methods.size());
      names.push_back(methods.substr(at, end - at));
      at = end + 1;
    }
  }
  for (const std::string& n : names) peft::find_method(n);  // before any training
  make_folders(c.output);
  std::vector<TrainResult> results;
  double base_seconds = 0;
  for (const std::string& n : names) {
    Trainer trainer(model, task, peft::find_method(n), Json::object(), c.train);
    if (base_seconds == 0) {  // the model without any adapter, for the inference overhead
      Trainer base(model, task, peft::find_method("head"), Json::object(), c.train);
      base.evaluate(task.test, &base_seconds);
      base.evaluate(task.test, &base_seconds);
    }
    results.push_back(trainer.train(progress(n)));
    peft::save_adapter(c.output + "/" + n, trainer.method(), trainer.adapted().config,
                       trainer.adapted().graph, trainer.params(), c.model);
    if (g_interrupted != 0) break;
  }
  Json rows = Json::array();
  for (const TrainResult& r : results) {
    Json j = to_json(r, task.metric);
    j["storage_bytes"] =
        std::filesystem::file_size(c.output + "/" + r.method + "/adapter_model.safetensors");
    j["inference_overhead"] = base_seconds > 0 ? r.eval_seconds / base_seconds : 0;
    rows.push_back(j);
  }
  const Json all = {{"task", c.task},         {"metric", task.metric}, {"steps", c.train.steps},
                    {"batch", c.train.batch}, {"seed", c.train.seed},  {"rows", rows}};
  write_json_file(c.output + "/results.json", all);
  write_file(c.output + "/report.html", comparison_report(results, all));
  if (c.json)
    std::cout << all.dump(2) << "\n";
  else
    std::cout << comparison_table(results, task.metric, base_seconds) << "report: " << c.output
              << "/report.html\n";
}

void run_methods(const Common& c) {
  Json list = Json::array();
  for (const peft::Method& m : peft::all_methods()) {
    list.push_back({{"name", m.name},
                    {"class", m.family},
                    {"verbs", m.verbs},
                    {"reference", m.reference},
                    {"peft_type", m.peft_type},
                    {"learning_rate", m.learning_rate},
                    {"hyperparameters", peft::complete_config(m, Json::object())}});
  }
  if (c.json) {
    std::cout << Json{{"methods", list}}.dump(2) << "\n";
    return;
  }
  for (const Json& m : list) {
    std::cout << fmt::format("{:16} {:24} {:24} {}\n", m["name"].get<std::string>(),
                             m["class"].get<std::string>(), m["verbs"].get<std::string>(),
                             m["reference"].get<std::string>());
  }
}

std::vector<std::string> lines_of(const std::string& file) {
  std::vector<std::string> lines;
  const std::string text =
      file == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : read_file(file);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

void run_encode(const Common& c, const std::string& file) {
  const auto tokenizer = load_tokenizer(c.model);
  Json all = Json::array();
  for (const std::string& line : lines_of(file)) {
    const Encoding e = tokenizer->encode(line);
    if (!c.json) {
      std::cout << fmt::format("{}\n", fmt::join(e.tokens, " "));
      continue;
    }
    Json offsets = Json::array();
    for (const auto& [begin, end] : e.offsets) offsets.push_back({begin, end});
    all.push_back({{"ids", e.ids},
                   {"tokens", e.tokens},
                   {"offsets", offsets},
                   {"decoded", tokenizer->decode(e.ids)}});
  }
  if (c.json) std::cout << all.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
}

void run_data(const Common& c, const std::string& name) {
  if (!name.starts_with("wordnet:"))
    throw UsageError("the task '{}' is not known; give wordnet:NAME (supersense, nli, gloss, sim)",
                     name);
  const WordnetTask task = build_wordnet_task(name.substr(8));
  const Json j = {
      {"files", write_wordnet_task(task, c.output)},
      {"rows",
       {{"train", task.train.size()}, {"dev", task.dev.size()}, {"test", task.test.size()}}}};
  if (c.json)
    std::cout << j.dump(2) << "\n";
  else
    std::cout << fmt::format("{} train, {} dev and {} test rows written to {}\n", task.train.size(),
                             task.dev.size(), task.test.size(), c.output);
}

void print(const Json& j) {
  std::cout << j.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

int run(int argc, char** argv) {
  CLI::App app{"graft: parameter-efficient fine-tuning as graph transformation"};
  app.require_subcommand(1);
  Common c;
  std::string methods = "all", file, data_name;
  auto common = [&](CLI::App* s) {
    s->add_flag("--json", c.json, "one JSON object on standard output");
    s->add_option("--threads", c.threads, "threads to compute with (default: all cores)")
        ->check(CLI::PositiveNumber);
    s->add_option("--seed", c.train.seed, "seed of data order and initialization");
    return s;
  };
  auto training = [&](CLI::App* s) {
    common(s);
    s->add_option("--model", c.model, "Hugging Face model folder")->required();
    s->add_option("--task", c.task, "wordnet:NAME or NAME.train.tsv")->required();
    s->add_option("--output", c.output, "folder to write to")->required();
    s->add_option("--steps", c.train.steps, "optimizer steps")->check(CLI::PositiveNumber);
    s->add_option("--batch", c.train.batch, "rows per step")->check(CLI::PositiveNumber);
    s->add_option("--max-length", c.max_length, "tokens per row at most")
        ->check(CLI::Range(3, 100000));
    s->add_option("--train-size", c.train_size, "use the first N training rows")
        ->check(CLI::PositiveNumber);
    return s;
  };
  CLI::App* tune = training(app.add_subcommand("tune", "fine-tune a model with a method"));
  tune->add_option("--method", c.method, "see graft methods");
  tune->add_option("--set", c.set, "hyperparameter key=value");
  tune->add_option("--lr", c.train.lr, "learning rate of everything but the head")
      ->check(CLI::PositiveNumber);
  tune->add_flag("--profile", c.train.profile, "print where the time of a step goes");
  CLI::App* compare = training(
      app.add_subcommand("compare", "train several methods under one recipe and compare them"));
  compare->add_option("--methods", methods, "names separated by commas, or all");
  CLI::App* list =
      common(app.add_subcommand("methods", "every method, its hyperparameters and defaults"));
  CLI::App* encode = common(app.add_subcommand("encode", "tokenize, one text a line"));
  encode->add_option("--model", c.model, "Hugging Face model folder")->required();
  encode->add_option("file", file, "text file, or - for standard input")->required();
  CLI::App* data = common(app.add_subcommand("data", "write a task's files"));
  data->add_option("name", data_name, "wordnet:NAME")->required();
  data->add_option("--output", c.output, "folder to write to")->required();
  std::string adapter, path;
  int64_t length = 64, labels = 2;
  auto with_model = [&](CLI::App* sub, bool with_adapter) {
    common(sub)->add_option("--model", c.model, "Hugging Face model folder")->required();
    if (with_adapter) sub->add_option("--adapter", adapter, "adapter folder");
    return sub;
  };
  CLI::App* eval = with_model(
      app.add_subcommand("eval", "metrics of a model or an adapter on a task's test set"), true);
  eval->add_option("--task", c.task, "wordnet:NAME or NAME.train.tsv")->required();
  eval->add_option("--batch", c.train.batch, "rows at once")->check(CLI::PositiveNumber);
  eval->add_option("--max-length", c.max_length, "tokens per row at most")
      ->check(CLI::Range(3, 100000));
  CLI::App* embed =
      with_model(app.add_subcommand("embed", "sentence embeddings, one text a line"), true);
  embed->add_option("file", file, "text file, or - for standard input")->required();
  CLI::App* merge =
      with_model(app.add_subcommand("merge", "fold an adapter into a plain model folder"), false);
  merge->add_option("--adapter", adapter, "adapter folder")->required();
  merge->add_option("--output", c.output, "folder to write to")->required();
  CLI::App* inspect = common(app.add_subcommand(
      "inspect", "what is in a model or adapter folder, and whether it is whole"));
  inspect->add_option("path", path, "folder or safetensors file")->required();
  CLI::App* planned = with_model(
      app.add_subcommand("plan",
                         "parameters, memory and operations of a training step, from shapes alone"),
      false);
  planned->add_option("--method", c.method, "see graft methods");
  planned->add_option("--set", c.set, "hyperparameter key=value");
  planned->add_option("--batch", c.train.batch, "rows per step")->check(CLI::PositiveNumber);
  planned->add_option("--length", length, "tokens per row")->check(CLI::PositiveNumber);
  planned->add_option("--labels", labels, "classes of the head")->check(CLI::PositiveNumber);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  }
  if (c.threads > 0) set_num_threads(c.threads);
  if (tune->parsed()) run_tune(c);
  if (compare->parsed()) run_compare(c, methods);
  if (list->parsed()) run_methods(c);
  if (encode->parsed()) run_encode(c, file);
  if (data->parsed()) run_data(c, data_name);
  if (eval->parsed()) print(evaluate_model(c.model, adapter, c.task, c.train.batch, c.max_length));
  if (embed->parsed()) print(embed_texts(c.model, adapter, lines_of(file)));
  if (merge->parsed()) print(merge_adapter(c.model, adapter, c.output));
  if (inspect->parsed()) print(inspect_path(path));
  if (planned->parsed())
    print(plan_step(c.model, c.method, parse_set(c.set), c.train.batch, length, labels));
  return 0;
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { graft::g_interrupted = 1; });
  try {
    return graft::run(argc, argv);
  } catch (const graft::UsageError& e) {
    std::fprintf(stderr, "graft: %s\n", e.what());
    return 2;
  } catch (const graft::FileError& e) {
    std::fprintf(stderr, "graft: %s\n", e.what());
    return 3;
  } catch (const graft::BudgetError& e) {
    std::fprintf(stderr, "graft: %s\n", e.what());
    return 4;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "graft: %s\n", e.what());
    return 1;
  }
}
