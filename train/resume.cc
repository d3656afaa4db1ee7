// Checkpoints of a Trainer: a resumed run goes on with the very bits.
#include <cmath>
#include <limits>

#include "core/atomic_file.h"
#include "train/trainer.h"

namespace graft {
namespace {

uint64_t hash_rows(const std::vector<Example>& rows) {
  std::string text;
  for (const Example& x : rows) {
    text += fmt::format("{}\t{}\t{}\t{}\t{}\n", x.id, x.label, x.score, fmt::join(x.ids, " "),
                        fmt::join(x.next, " "));
  }
  return task_hash(text);
}

}  // namespace

Json Trainer::run_description() const {
  return {{"model", task_hash(read_file(model_.folder + "/config.json"))},
          {"task", task_.name},
          {"train rows", hash_rows(task_.train)},
          {"from scratch", options_.from_scratch},
          {"method", method_.name},
          {"hyperparameters", first_config_},
          {"steps", options_.steps},
          {"batch", options_.batch},
          {"accumulate", options_.accumulate},
          {"seed", options_.seed},
          {"lr", options_.lr},
          {"head_lr", options_.head_lr},
          {"weight_decay", options_.weight_decay},
          {"max_grad_norm", options_.max_grad_norm},
          {"optim", options_.optim},
          {"dropout", options_.dropout},
          {"eval_every", options_.eval_every},
          {"keep_best", options_.keep_best}};
}

// Everything of the method and the head, and if asked for the optimizer's moments.
std::map<std::string, Tensor> Trainer::trained(bool with_states) const {
  std::map<std::string, Tensor> values;
  for (const Param& p : adapted_.graph.params()) {
    if (p.trainable || !p.adapter.empty()) values[p.name] = store_.get(p.name);
  }
  if (!with_states) return values;
  for (const std::string& name : store_.names()) {
    if (name.starts_with("optimizer.")) values[name] = store_.get(name);
  }
  return values;
}

void Trainer::save(const Stage& stage) const {
  Json curve = Json::array();
  for (const CurvePoint& p : progress_.curve) {
    const Json dev = std::isnan(p.dev) ? Json() : Json(p.dev);
    curve.push_back({p.step, p.loss, p.lr, p.grad_norm, p.tokens_per_second, dev});
  }
  save_checkpoint(options_.checkpoint, {run_description(),
                                        {{"step", progress_.step},
                                         {"first_step_of_stage", stage.first_step},
                                         {"best", progress_.best},
                                         {"best_step", progress_.best_step},
                                         {"curve", curve}},
                                        trained(true),
                                        best_});
}

size_t Trainer::resume(const std::vector<Stage>& stages) {
  const std::string& file = options_.checkpoint;
  const Checkpoint c = load_checkpoint(file);
  expect_same_run(c.run, run_description(), file);
  const auto first = json_field<int64_t>(c.progress, "first_step_of_stage", file);
  size_t at = 0;
  while (at + 1 < stages.size() && stages[at].first_step < first) enter(stages[++at].config);
  for (const auto& [name, t] : c.parameters) store_.set(name, t);
  store_.initialize(stages[at].programs.begin()->second->graph, 0);
  store_.check(stages[at].programs.begin()->second->graph);
  best_ = c.best;
  progress_.step = json_field<int64_t>(c.progress, "step", file);
  progress_.best = json_field<double>(c.progress, "best", file);
  progress_.best_step = json_field<int64_t>(c.progress, "best_step", file);
  for (const Json& p : c.progress.at("curve")) {
    const double dev =
        p.at(5).is_null() ? std::numeric_limits<double>::quiet_NaN() : p.at(5).get<double>();
    progress_.curve.push_back({p.at(0).get<int64_t>(), p.at(1).get<double>(), p.at(2).get<double>(),
                               p.at(3).get<double>(), p.at(4).get<double>(), dev});
  }
  if (progress_.step < 1 || progress_.step > options_.steps ||
      static_cast<int64_t>(progress_.curve.size()) != progress_.step) {
    throw FileError("{}: the checkpoint is damaged: {} steps with {} points of the curve", file,
                    progress_.step, progress_.curve.size());
  }
  return at;
}

}  // namespace graft
