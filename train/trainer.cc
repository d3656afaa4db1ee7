#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/planner.h"
#include "core/error.h"
#include "nn/optimizer.h"
#include "train/metrics.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Lengths are rounded up to this, so that few programs serve all batches.
constexpr int64_t kLengthStep = 8;

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::ranges::nth_element(x, x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2));
  return x[x.size() / 2];
}

}  // namespace

Graph training_step(const peft::Adapted& adapted, int64_t classes, const TrainOptions& options,
                    double lr) {
  Builder b(cheap_forms(adapted.graph));
  const Value logits = b.graph().output("logits");
  const Shape rows{b.shape(logits)[0]};
  Value loss;
  if (classes > 0) {
    loss = ops::cross_entropy(b, logits, b.input("labels", DType::i64, rows));
  } else {
    loss = ops::mse(b, ops::reshape(b, logits, rows), b.input("targets", DType::f32, rows));
  }
  loss = peft::add_penalties(b, loss);
  b.output("loss", loss);
  b.keep_outputs({"loss"});
  const auto gradients = gradient(b, loss);
  std::map<double, ParamGroup> groups;  // by learning rate
  for (const auto& [name, g] : gradients) {
    const bool head = name.starts_with("classifier.");
    const double rate = head ? options.head_lr : lr * b.graph().param(name).lr_scale;
    ParamGroup& group = groups[rate];
    group.schedule = {.kind = "wordnet", .lr = rate, .total = options.steps};
    group.weight_decay = options.weight_decay;
    group.params.push_back(name);
  }
  std::vector<ParamGroup> all;
  for (const auto& [rate, group] : groups) all.push_back(group);
  const auto updated = add_optimizer(b, gradients, {}, all, options.max_grad_norm);
  peft::finish_step(b, adapted, gradients, updated);
  return b.finish();
}

Trainer::Trainer(const ModelConfig& model, const Task& task, const peft::Method& method,
                 const Json& hyperparameters, const TrainOptions& options)
    : model_(model), task_(task), method_(method), config_(hyperparameters), options_(options) {
  if (!config_.contains("modules_to_save")) config_["modules_to_save"] = {"classifier"};
  const Json full = peft::complete_config(method_, config_);
  virtual_tokens_ = peft::virtual_tokens(method_, full);
  adapted_ = peft::apply(base_graph({1, kLengthStep}), method_, config_);
  load_parameters(model_.folder, adapted_.graph, store_);
  peft::initialize(adapted_, store_, static_cast<uint64_t>(options_.seed));
  for (const Param& p : adapted_.graph.params()) {
    if (p.trainable) store_.set(p.name, store_.get(p.name).clone());
  }
}

Trainer::Shape2 Trainer::shape_of(const std::vector<Example>& rows,
                                  const std::vector<size_t>& batch) const {
  size_t longest = 1;
  for (size_t i : batch) longest = std::max(longest, rows[i].ids.size());
  const int64_t padded =
      (static_cast<int64_t>(longest) + kLengthStep - 1) / kLengthStep * kLengthStep;
  return {static_cast<int64_t>(batch.size()),
          std::min(padded, model_.max_positions - virtual_tokens_)};
}

Graph Trainer::base_graph(Shape2 shape) const {
  return build_encoder(model_, {.batch = shape.first,
                                .length = shape.second + virtual_tokens_,
                                .head = Head::mean_pooled,
                                .labels = task_.outputs()});
}

Graph Trainer::train_graph(Shape2 shape) const {
  const double lr = options_.lr > 0 ? options_.lr : method_.learning_rate;
  return training_step(peft::apply(base_graph(shape), method_, config_, {.training = true}),
                       task_.classes, options_, lr);
}

Executor& Trainer::executor(std::map<Shape2, std::unique_ptr<Executor>>& pool, Shape2 shape,
                            bool training) {
  auto& slot = pool[shape];
  if (slot == nullptr) {
    std::shared_ptr<const Program> program;
    if (training) {
      program = programs_.at(shape);
    } else {
      Builder b(cheap_forms(peft::apply(base_graph(shape), method_, config_).graph));
      b.keep_outputs({"logits"});
      program = std::make_shared<const Program>(plan(b.finish()));
    }
    const bool fits = arena_ != nullptr && arena_->bytes() >= program->arena_bytes;
    slot = std::make_unique<Executor>(program, store_, fits ? arena_ : nullptr);
    slot->set_profile(training && options_.profile);
  }
  return *slot;
}

void Trainer::fill(Executor& e, const std::vector<Example>& rows, const std::vector<size_t>& batch,
                   Shape2 shape) const {
  std::vector<EncoderRow> encoded;
  for (size_t i : batch) encoded.push_back({rows[i].ids, rows[i].types});
  fill_encoder_inputs(model_, encoded, shape.second, virtual_tokens_,
                      [&](const std::string& name) -> Tensor& { return e.input(name); });
}

TrainResult Trainer::train(const std::function<bool(const StepReport&)>& on_step) {
  TrainResult result;
  result.method = method_.name;
  result.trainable = peft::trainable_count(adapted_.graph, false);
  for (const Param& p : adapted_.graph.params()) {
    if (!p.name.starts_with("classifier.") && is_float(p.type.dtype))
      result.total += p.type.shape.elements();
  }
  if (task_.train.empty()) throw UsageError("task {}: there are no rows to train on", task_.name);

  // The batches of the whole run, and a plan for each of their shapes: memory is known before the
  // first step.
  std::vector<std::vector<size_t>> batches;
  for (int64_t epoch = 0; static_cast<int64_t>(batches.size()) < options_.steps; ++epoch) {
    auto more =
        epoch_batches(task_.train, static_cast<size_t>(options_.batch), options_.seed, epoch);
    batches.insert(batches.end(), more.begin(), more.end());
  }
  batches.resize(static_cast<size_t>(options_.steps));
  size_t arena = 0;
  std::shared_ptr<const Program> largest;
  for (const auto& batch : batches) {
    const Shape2 shape = shape_of(task_.train, batch);
    auto& program = programs_[shape];
    if (program != nullptr) continue;
    program = std::make_shared<const Program>(plan(train_graph(shape)));
    if (largest == nullptr || program->arena_bytes > arena) largest = program;
    arena = std::max(arena, program->arena_bytes);
  }
  arena_ = std::make_shared<Arena>(arena);
  store_.initialize(largest->graph, static_cast<uint64_t>(options_.seed));
  result.planned_peak_bytes = largest->peak_bytes();
  result.timeline = memory_timeline(*largest);

  std::vector<double> seconds;
  double tokens = 0, total_seconds = 0;
  size_t high_water = 0;
  for (int64_t step = 0; step < options_.steps; ++step) {
    const auto& batch = batches[static_cast<size_t>(step)];
    const Shape2 shape = shape_of(task_.train, batch);
    Executor& e = executor(train_pool_, shape, true);
    const auto start = Clock::now();
    fill(e, task_.train, batch, shape);
    for (size_t r = 0; r < batch.size(); ++r) {
      const Example& x = task_.train[batch[r]];
      if (task_.classes > 0)
        e.input("labels").data<int64_t>()[r] = x.label;
      else
        e.input("targets").data<float>()[r] = static_cast<float>(x.target);
    }
    e.run();
    const double took = since(start);
    result.losses.push_back(static_cast<double>(e.output("loss").data<float>()[0]));
    if (!std::isfinite(result.losses.back())) {
      throw Error(fmt::format("the loss is {} at step {}; a smaller --lr than {} may help",
                              result.losses.back(), step,
                              options_.lr > 0 ? options_.lr : method_.learning_rate));
    }
    seconds.push_back(took);
    total_seconds += took;
    for (size_t i : batch) tokens += static_cast<double>(task_.train[i].ids.size());
    high_water = std::max(high_water, e.high_water_bytes());
    result.steps = step + 1;
    if (on_step && !on_step({step + 1, options_.steps, result.losses.back(), tokens / total_seconds,
                             total_seconds / static_cast<double>(step + 1) *
                                 static_cast<double>(options_.steps - step - 1),
                             result.planned_peak_bytes})) {
      break;
    }
  }
  result.final_loss = result.losses.back();
  result.seconds_per_step = median(seconds);
  result.tokens_per_second = tokens / total_seconds;
  result.peak_bytes = largest->persistent_bytes + high_water;
  for (auto& [shape, e] : train_pool_) {
    for (const OpTime& t : e->profile()) {
      const auto it = std::ranges::find(result.profile, t.op, &OpTime::op);
      if (it == result.profile.end()) {
        result.profile.push_back(t);
      } else {
        it->calls += t.calls;
        it->seconds += t.seconds;
        it->flops += t.flops;
      }
    }
  }
  std::ranges::sort(result.profile, std::greater{}, &OpTime::seconds);
  result.dev_metric = evaluate(task_.dev);
  result.test_metric = evaluate(task_.test, &result.eval_seconds);
  return result;
}

double Trainer::evaluate(const std::vector<Example>& rows, double* seconds) {
  std::vector<int64_t> predicted(rows.size()), wanted(rows.size());
  std::vector<double> scores(rows.size()), targets(rows.size());
  double total = 0;
  for (const auto& batch : sorted_batches(rows, static_cast<size_t>(options_.batch))) {
    const Shape2 shape = shape_of(rows, batch);
    Executor& e = executor(eval_pool_, shape, false);
    const auto start = Clock::now();
    fill(e, rows, batch, shape);
    e.run();
    total += since(start);
    const Tensor logits = e.output("logits");
    const int64_t n = task_.outputs();
    for (size_t r = 0; r < batch.size(); ++r) {
      const float* row = logits.data<float>() + static_cast<int64_t>(r) * n;
      predicted[batch[r]] = std::max_element(row, row + n) - row;
      wanted[batch[r]] = rows[batch[r]].label;
      scores[batch[r]] = static_cast<double>(row[0]);
      targets[batch[r]] = rows[batch[r]].score;
    }
  }
  if (seconds != nullptr) *seconds = total;
  return task_.classes > 0 ? accuracy(predicted, wanted) : spearman(scores, targets);
}

}  // namespace graft
