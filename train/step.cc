#include "train/step.h"

#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fuse_loss.h"
#include "core/error.h"
#include "models/family.h"
#include "nn/optimizer.h"
#include "train/default_targets.h"

namespace graft {

Value task_loss(Builder& b, Value logits, TaskKind kind, const std::string& suffix) {
  const Shape rows{b.shape(logits).product(0, b.shape(logits).rank() - 1)};
  if (kind == TaskKind::regression) {
    return ops::mse(b, ops::reshape(b, logits, rows),
                    b.input("targets" + suffix, DType::f32, rows));
  }
  const Value labels = b.input("labels" + suffix, DType::i64, rows);
  if (kind == TaskKind::classification) return ops::cross_entropy(b, logits, labels);
  logits = ops::reshape(b, logits, {rows[0], b.shape(logits)[-1]});
  return ops::mul(b, ops::cross_entropy(b, logits, labels, "sum", kNoLabel),
                  b.input("label_weight" + suffix, DType::f32, {}));
}

TaskKind usual_task(const ModelConfig& model) {
  const bool writes = model.family->kind == Family::Kind::decoder ||
                      model.family->kind == Family::Kind::encoder_decoder;
  const bool other_class = model.architecture.ends_with("Classification") ||
                           model.architecture.ends_with("EncoderModel");
  return writes && !other_class ? TaskKind::language : TaskKind::classification;
}

Head training_head(const ModelConfig& model, TaskKind kind) {
  if (kind != TaskKind::language) return task_head(model);
  if (model.family->kind == Family::Kind::decoder) return Head::causal_lm;
  if (model.family->kind == Family::Kind::encoder_decoder) return Head::seq2seq_lm;
  throw UsageError("language modelling needs a decoder; models of type {} have none",
                   model.model_type);
}

Json training_config(const ModelConfig& model, const peft::Method& method, Json given,
                     int64_t steps, TaskKind kind) {
  if (!given.contains("modules_to_save") && kind != TaskKind::language)
    given["modules_to_save"] = {"classifier", "score"};
  set_default_targets(model, method, given);
  Json config = peft::complete_config(method, given);
  if (config.contains("total_step") && config.at("total_step").is_null()) {
    config["total_step"] = steps;
  }
  return config;
}

std::string part_suffix(size_t k, size_t parts) {
  return parts > 1 ? fmt::format("/{}", k) : std::string();
}

Graph training_step(std::span<const MicroBatch> parts, TaskKind kind, const StepOptions& options,
                    double lr) {
  Builder b;
  std::map<std::string, Value> gradients;
  Value total;
  for (size_t k = 0; k < parts.size(); ++k) {
    const Graph model = cheap_forms(parts[k].adapted.graph);
    const std::string suffix = part_suffix(k, parts.size());
    b.part = static_cast<int32_t>(k);
    b.phase = Phase::forward;
    const auto here = b.append(model, suffix);
    for (const auto& [name, v] : model.outputs()) b.output(name, here(v));
    Value loss = task_loss(b, b.graph().output("logits"), kind, suffix);
    loss = peft::add_penalties(b, loss);
    b.keep_outputs({});  // nobody wants to see the logits of a step
    loss = fuse_loss(b, loss);
    if (parts.size() > 1) loss = ops::scale(b, loss, parts[k].share);
    total = total.valid() ? ops::add(b, total, loss) : loss;
    const auto own = gradient(b, loss);
    b.phase = Phase::backward;
    for (const auto& [name, g] : own) {
      const auto [at, first] = gradients.try_emplace(name, g);
      if (!first) at->second = ops::add(b, at->second, g);
    }
  }
  b.part = 0;
  b.phase = Phase::forward;
  b.output("loss", total);

  std::map<double, ParamGroup> groups;  // by learning rate
  for (const auto& [name, g] : gradients) {
    const bool head = peft::is_task_head(name);
    const double rate = head ? options.head_lr : lr * b.graph().param(name).lr_scale;
    ParamGroup& group = groups[rate];
    group.schedule = {.kind = "wordnet", .lr = rate, .total = options.steps};
    group.weight_decay = options.weight_decay;
    group.params.push_back(name);
  }
  std::vector<ParamGroup> all;
  size_t main = 0;  // the group of the method's own rate
  for (const auto& [rate, group] : groups) {
    if (rate == lr) main = all.size();
    all.push_back(group);
  }
  const auto updated =
      add_optimizer(b, gradients, {.kind = options.optim}, all, options.max_grad_norm);
  peft::finish_step(b, parts[0].adapted, gradients, updated);
  b.output("lr", b.graph().output(fmt::format("lr/{}", main)));
  std::vector<std::string> kept{"loss", "lr"};
  if (options.max_grad_norm > 0) kept.push_back("grad_norm");
  b.keep_outputs(kept);
  return b.finish();
}

}  // namespace graft
