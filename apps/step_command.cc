#include "apps/step_command.h"

#include <tuple>

#include "autograd/compile.h"
#include "core/error.h"
#include "models/family.h"
#include "models/fresh_weights.h"
#include "models/model.h"
#include "models/weights.h"
#include "train/step.h"

namespace graft {
namespace {

constexpr std::pair<const char*, TaskKind> kKinds[] = {{"classification", TaskKind::classification},
                                                       {"regression", TaskKind::regression},
                                                       {"language", TaskKind::language}};
constexpr int64_t kUsualLength = 64;

// What stands in the model's files, if there are any, in the types in which a run would read it.
ParamStore given_weights(const ModelConfig& model, const peft::Adapted& adapted) {
  ParamStore store;
  if (model.folder.empty() || !has_weights(model.folder)) return store;
  load_parameters(model.folder, adapted.graph, store);
  for (const std::string& name : adapted.replaced) store.erase(name);
  return store;
}

// Throws UsageError where so many tokens do not fit into a row.
void check_length(const PlannedStep& s) {
  const int64_t room = longest_row(s.model, s.front), all = longest_row(s.model);
  if (s.length <= room) return;
  throw UsageError("the model has {} positions; a length of {} does not fit beside the {} of {}",
                   all, s.length, all - room, s.method->name);
}

}  // namespace

const char* name_of(TaskKind kind) {
  for (const auto& [name, k] : kKinds) {
    if (k == kind) return name;
  }
  return "";
}

TaskKind task_kind_of(const std::string& name, const ModelConfig& model) {
  for (const auto& [known, kind] : kKinds) {
    if (name == known) return kind;
  }
  return usual_task(model);
}

void add_task_kind_options(CLI::App& command, std::string& task_kind, int64_t& labels) {
  command
      .add_option("--task-kind", task_kind,
                  "classification, regression or language (default: language for models that write "
                  "text, classification for all others)")
      ->check(CLI::IsMember({"classification", "regression", "language"}));
  command
      .add_option("--labels", labels,
                  "classes of a classification (default: as many as the model's config names)")
      ->check(CLI::PositiveNumber);
}

void add_step_options(CLI::App& command, StepCommand& o) {
  command.add_option("--model", o.model, "Hugging Face model folder, or a config.json alone")
      ->required();
  add_method_options(command, o.method);
  add_task_kind_options(command, o.task_kind, o.labels);
  command.add_option("--batch", o.batch, "rows per step")->check(CLI::PositiveNumber);
  command.add_option("--length", o.length, "tokens per row (default: 64)")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--target-length", o.target_length,
                  "tokens per row that a decoder with an encoder says (default: --length)")
      ->check(CLI::PositiveNumber);
  add_dropout_option(command, o.dropout);
  add_memory_options(command, o.memory);
  add_optimizer_options(command, o.step);
}

PlannedStep plan_step(const StepCommand& o, StartWeights start) {
  PlannedStep s;
  s.model = load_config(o.model);
  s.memory = plan_options(o.memory);
  s.kind = task_kind_of(o.task_kind, s.model);
  Json config;
  std::tie(s.method, config) = method_of(o.method);
  config = training_config(s.model, *s.method, config, o.step.steps, s.kind);
  s.front = {peft::virtual_tokens(*s.method, config), peft::position_shift(*s.method, config)};

  ModelOptions shape{.batch = o.batch,
                     .head = training_head(s.model, s.kind),
                     .labels = o.labels,
                     .dropout = o.dropout};
  if (s.kind == TaskKind::regression) shape.labels = 1;
  const bool image = s.model.family->kind == Family::Kind::image,
             answers = shape.head == Head::seq2seq_lm;
  if (image && o.length > 0)
    throw UsageError("--length: how many tokens a picture is, the model's config.json says");
  if (!answers && o.target_length > 0)
    throw UsageError("--target-length: only a decoder with an encoder answers a row with another");
  s.length = o.length > 0 ? o.length : kUsualLength;
  if (!image) check_length(s);
  if (answers) s.target_length = o.target_length > 0 ? o.target_length : s.length;
  shape.length = s.length + s.front.virtual_tokens;
  shape.target_length = s.target_length;
  Graph base = build_model(s.model, shape);
  if (start == StartWeights::drawn) base = with_fresh_weights(base, s.model);
  if (image) s.length = base.type(base.output("last_hidden")).shape[1];
  s.outputs = base.type(base.output("logits")).shape[-1];
  s.adapted = peft::apply(base, *s.method, config, {.model = s.model.model_type, .training = true});
  const MicroBatch whole{s.adapted, 1};
  s.program = compile(training_step({&whole, 1}, s.kind, o.step, s.method->learning_rate),
                      given_weights(s.model, s.adapted), s.memory);
  return s;
}

}  // namespace graft
