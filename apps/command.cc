#include "apps/command.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>

#include "core/parallel.h"
#include "models/chat/chat_template.h"
#include "models/family.h"
#include "peft/adapter_files.h"
#include "train/image_task.h"

namespace graft {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

}  // namespace

void add_common_options(CLI::App& command, CommonOptions& o) {
  command.add_flag("--json", o.json, "one JSON object on standard output, nothing else there");
  command.add_option("--threads", o.threads, "threads to compute with (default: all cores)")
      ->check(CLI::PositiveNumber);
  command.add_option("--seed", o.seed, "seed of data order and initialization");
  command.add_option("--device", o.device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
  command.add_option("--precision", o.precision, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}));
}

void begin(const CommonOptions& o) {
  if (o.device != "cpu") {
    throw DeviceError("--device {}: this build has no such device; use --device cpu", o.device);
  }
  if (o.precision != "fp32") {
    throw DeviceError("--precision {}: the {} device computes in fp32 only; use --precision fp32",
                      o.precision, o.device);
  }
  if (o.threads > 0) set_num_threads(o.threads);
}

void add_method_options(CLI::App& command, MethodOptions& o) {
  command.add_option("--method", o.method, "a name (see graft methods) or an adapter_config.json");
  command.add_option("--set", o.set, "hyperparameter key=value; lists and objects as JSON");
}

std::pair<const peft::Method*, Json> method_of(const MethodOptions& o) {
  std::pair<const peft::Method*, Json> result;
  if (o.method.ends_with(".json")) {
    const peft::AdapterConfig file = peft::read_adapter_config(o.method);
    if (!file.ignored.empty()) {
      throw UsageError("{}: nothing here knows what to do with the field {}; remove it to go on",
                       o.method, fmt::join(file.ignored, ", "));
    }
    result = {file.method, file.config};
  } else {
    result = {&peft::find_method(o.method), Json::object()};
  }
  for (const std::string& pair : o.set) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) throw UsageError("--set takes key=value, got '{}'", pair);
    const std::string value = pair.substr(equals + 1);
    const Json parsed = Json::parse(value, nullptr, false);
    result.second[pair.substr(0, equals)] = parsed.is_discarded() ? Json(value) : parsed;
  }
  return result;
}

void add_model_option(CLI::App& command, std::string& model) {
  command.add_option("--model", model, "Hugging Face model folder")->required();
}

void add_task_options(CLI::App& command, std::string& spec, TaskOptions& o) {
  command
      .add_option("--task", spec,
                  "wordnet:NAME, a .jsonl, .csv or .tsv file (labelled texts, prompts with "
                  "completions, conversations), lm: text that --train names, or a folder with a "
                  "sub-folder of pictures per class")
      ->required();
  command.add_option("--train", o.train, "text files of the task lm, each one text");
  command.add_option("--text-column", o.text_column, "default: text, sentence or text_a");
  command.add_option("--text-pair-column", o.text_pair_column, "default: text_pair or text_b");
  command.add_option("--label-column", o.label_column, "default: label");
  command.add_option("--prompt-column", o.prompt_column, "default: prompt");
  command.add_option("--completion-column", o.completion_column, "default: completion");
  command.add_option("--messages-column", o.messages_column,
                     "of conversations; default: messages or conversations");
  add_chat_template_option(command, o.chat_template);
  command.add_option("--dev", o.dev, "file of development rows (default: a tenth of the rows)");
  command.add_option("--test", o.test, "file of test rows (default: a tenth of the rows)");
  command.add_option("--also-test", o.also_test,
                     "file that is measured as well: what the model knew before");
  command
      .add_option("--classes", o.classes,
                  "number of classes, where training rows show fewer than there are")
      ->check(CLI::PositiveNumber);
  command.add_flag("--text-to-text", o.text_to_text,
                   "labels are words that a language model says, as in T5");
  command.add_flag("--regression", o.regression, "labels are numbers to be met, not classes");
  command.add_option(
      "--metric", o.metric,
      "accuracy, macro_f1, matthews, pearson, spearman, perplexity or bits_per_byte");
  command.add_option("--max-length", o.max_length, "tokens per row at most")
      ->check(CLI::Range(3, 100000));
}

Task task_of(const ModelConfig& model, const std::string& spec, TaskOptions options) {
  if (model.family->kind == Family::Kind::image) return load_image_task(spec, options);
  options.two_stacks = model.family->decode != nullptr;
  options.model_folder = model.folder;
  return load_task(spec, *load_tokenizer(model.folder), options);
}

void add_chat_template_option(CLI::App& command, std::string& name) {
  command.add_option("--chat-template", name,
                     fmt::format("how conversations are written: auto (as the model's folder says) "
                                 "or {}",
                                 fmt::join(chat_template_names(), ", ")));
}

void add_memory_options(CLI::App& command, MemoryOptions& o) {
  command.add_option("--budget", o.budget, "bytes a step may take (480M), or auto: what is free");
  command
      .add_option("--recompute", o.recompute,
                  "what backward computes again instead of keeping it: none; cheap: all but "
                  "products and attention; auto: as little as --budget allows. Results are the "
                  "same to the bit (default: cheap, with a budget auto)")
      ->check(CLI::IsMember({"none", "cheap", "auto"}));
}

void add_offload_option(CLI::App& command, MemoryOptions& o) {
  command
      .add_option(
          "--offload", o.offload,
          "a folder on a disk: the step's working memory is mapped from a file there, which "
          "the system writes out when memory is short")
      ->check(CLI::ExistingDirectory);
}

PlanOptions plan_options(const MemoryOptions& o) {
  PlanOptions options{.budget = parse_budget(o.budget)};
  if (!o.recompute.empty()) {
    options.recompute = recompute_named(o.recompute);
  } else if (options.budget > 0) {
    options.recompute = Recompute::automatic;
  }
  if (options.recompute == Recompute::automatic && options.budget == 0)
    throw UsageError("--recompute auto needs to know how much memory there is: give --budget");
  return options;
}

void add_dropout_option(CLI::App& command, bool& dropout) {
  command.add_flag("--dropout", dropout,
                   "the model's own dropout, at the rates that its config.json states");
}

void add_optimizer_options(CLI::App& command, StepOptions& o) {
  command
      .add_option("--max-grad-norm", o.max_grad_norm,
                  "gradients are clipped to it; 0: they are not, and each is used and gone as soon "
                  "as it is computed")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--optim", o.optim,
                  "adamw_8bit: moments as 8-bit codes in blocks, a quarter of the bytes, but for "
                  "small tensors and tables of embeddings")
      ->check(CLI::IsMember({"adamw", "adamw_8bit"}))
      ->capture_default_str();
}

void add_recipe_options(CLI::App& command, TrainOptions& o) {
  command.add_option("--steps", o.steps, "optimizer steps")->check(CLI::PositiveNumber);
  command.add_option("--batch", o.batch, "rows per step")->check(CLI::PositiveNumber);
  command.add_option("--accumulate", o.accumulate, "parts of a batch that run one after another")
      ->check(CLI::PositiveNumber);
  command.add_option("--head-lr", o.head_lr, "learning rate of the task head")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--weight-decay", o.weight_decay)->check(CLI::NonNegativeNumber);
  add_dropout_option(command, o.dropout);
  add_optimizer_options(command, o);
  command.add_option("--eval-every", o.eval_every, "steps between looks at the development rows")
      ->check(CLI::PositiveNumber);
  command.add_flag("!--keep-last", o.keep_best,
                   "with --eval-every: end with the last step's parameters, not the best ones");
}

size_t parse_budget(const std::string& text) {
  if (text.empty()) return 0;
  if (text == "auto") {
    return static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) *
           static_cast<size_t>(sysconf(_SC_PAGESIZE));
  }
  size_t end = 0;
  double value = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
  }
  std::string unit = text.substr(end);
  if (unit.ends_with("B")) unit.pop_back();
  if (unit.ends_with("i")) unit.pop_back();
  const size_t power = std::string("KMGT").find(unit.empty() ? ' ' : unit[0]);
  if (value <= 0 || unit.size() > 1 || (!unit.empty() && power == std::string::npos)) {
    throw UsageError("--budget takes auto or bytes, as 500000000 or 480M; got '{}'", text);
  }
  for (size_t i = 0; !unit.empty() && i <= power; ++i) value *= 1024;
  return static_cast<size_t>(value);
}

void print_json(const Json& json) {
  std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

std::function<bool(const StepReport&)> progress_of(const std::string& name) {
  const bool terminal = isatty(2) != 0;
  return [=](const StepReport& r) {
    const bool last = r.step == r.steps, training = r.work == "training";
    const std::string loss = training ? fmt::format("loss {:.4f}", r.loss) : std::string(r.work);
    if (terminal) {
      constexpr int64_t kWidth = 30;
      const auto full = static_cast<size_t>(r.step * kWidth / r.steps);
      fmt::print(
          stderr, "\r{:16} [{:30}] {:4}/{}  {}  {:5.0f} tokens/s  {:3.0f} s left  {:.0f} MB  {}",
          name, std::string(full, '='), r.step, r.steps, loss, r.tokens_per_second, r.seconds_left,
          static_cast<double>(r.peak_bytes) / 1e6, last && training ? "\n" : "");
    } else if (last || r.step % (training ? 50 : 500) == 0) {
      fmt::print(stderr, "{}: {} {} of {}, {}, {:.0f} tokens/s, {:.0f} s left\n", name,
                 training ? "step" : "row", r.step, r.steps, loss, r.tokens_per_second,
                 r.seconds_left);
    }
    std::fflush(stderr);
    return g_interrupted == 0;
  };
}

bool interrupted() { return g_interrupted != 0; }

void catch_interrupts() {
  for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { g_interrupted = 1; });
}

}  // namespace graft
