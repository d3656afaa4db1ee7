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
  Json full = peft::complete_config(method_, config_);
  if (full.contains("total_step") && full.at("total_step").is_null()) {
    config_["total_step"] = full["total_step"] = options_.steps;
  }
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

// The stages of the run and a plan for each shape of their batches: memory is known before the
// first step.
std::vector<Trainer::Stage> Trainer::stages(const std::vector<std::vector<size_t>>& batches) const {
  const double lr = options_.lr > 0 ? options_.lr : method_.learning_rate;
  std::vector<Stage> all;
  for (size_t step = 0; step < batches.size(); ++step) {
    const double progress = static_cast<double>(step) / static_cast<double>(batches.size());
    const Json config = all.empty() ? config_
                        : method_.next_stage == nullptr
                            ? Json()
                            : method_.next_stage(peft::complete_config(method_, all.back().config),
                                                 progress, store_);
    if (!config.is_null()) all.push_back({static_cast<int64_t>(step), config, {}});
    const Shape2 shape = shape_of(task_.train, batches[step]);
    auto& program = all.back().programs[shape];
    if (program != nullptr) continue;
    const peft::Adapted adapted =
        peft::apply(base_graph(shape), method_, all.back().config, {.training = true});
    program =
        std::make_shared<const Program>(plan(training_step(adapted, task_.classes, options_, lr)));
  }
  return all;
}

void Trainer::enter(const Json& config) {
  config_ = config;
  adapted_ = peft::apply(base_graph({1, kLengthStep}), method_, config_);
  peft::initialize(adapted_, store_, static_cast<uint64_t>(options_.seed));
  train_pool_.clear();
  eval_pool_.clear();
}

std::shared_ptr<Arena> Trainer::arena_for(const Program& program) const {
  const bool fits = arena_ != nullptr && arena_->bytes() >= program.arena_bytes;
  return fits ? arena_ : nullptr;
}

Executor& Trainer::training_executor(const Stage& stage, Shape2 shape) {
  auto& slot = train_pool_[shape];
  if (slot == nullptr) {
    const auto& program = stage.programs.at(shape);
    slot = std::make_unique<Executor>(program, store_, arena_for(*program));
    slot->set_profile(options_.profile);
  }
  return *slot;
}

Executor& Trainer::evaluation_executor(Shape2 shape) {
  auto& slot = eval_pool_[shape];
  if (slot == nullptr) {
    Builder b(cheap_forms(peft::apply(base_graph(shape), method_, config_).graph));
    b.keep_outputs({"logits"});
    const auto program = std::make_shared<const Program>(plan(b.finish()));
    slot = std::make_unique<Executor>(program, store_, arena_for(*program));
  }
  return *slot;
}

void Trainer::set_answer(Executor& e, int64_t row, const Example& x) const {
  if (task_.classes > 0) {
    e.input("labels").data<int64_t>()[row] = x.label;
  } else {
    e.input("targets").data<float>()[row] = static_cast<float>(x.target);
  }
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

  std::vector<std::vector<size_t>> batches;
  for (int64_t epoch = 0; static_cast<int64_t>(batches.size()) < options_.steps; ++epoch) {
    auto more =
        epoch_batches(task_.train, static_cast<size_t>(options_.batch), options_.seed, epoch);
    batches.insert(batches.end(), more.begin(), more.end());
  }
  batches.resize(static_cast<size_t>(options_.steps));
  std::vector<Stage> run = stages(batches);
  std::shared_ptr<const Program> largest;
  size_t arena = 0;
  for (const Stage& stage : run) {
    for (const auto& [shape, program] : stage.programs) {
      if (largest == nullptr || program->peak_bytes() > largest->peak_bytes()) largest = program;
      arena = std::max(arena, program->arena_bytes);
    }
  }
  arena_ = std::make_shared<Arena>(arena);
  result.planned_peak_bytes = largest->peak_bytes();
  result.timeline = memory_timeline(*largest);
  if (!adapted_.fisher.params.empty()) start_from_fisher();

  std::vector<double> seconds;
  double tokens = 0, total_seconds = 0;
  auto add_profiles = [&] {
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
  };
  auto stage = run.begin();
  auto begin_stage = [&] {
    const Graph& graph = stage->programs.begin()->second->graph;
    for (const std::string& name : store_.names()) {  // moments of what trained before
      const bool state = name.starts_with("optimizer.") && name != "optimizer.step";
      if (state) store_.erase(name);
    }
    store_.initialize(graph, static_cast<uint64_t>(options_.seed));
  };
  begin_stage();
  for (int64_t step = 0; step < options_.steps; ++step) {
    if (stage + 1 != run.end() && (stage + 1)->first_step == step) {
      add_profiles();
      ++stage;
      enter(stage->config);
      begin_stage();
    }
    const auto& batch = batches[static_cast<size_t>(step)];
    const Shape2 shape = shape_of(task_.train, batch);
    Executor& e = training_executor(*stage, shape);
    const auto start = Clock::now();
    fill(e, task_.train, batch, shape);
    for (size_t r = 0; r < batch.size(); ++r) {
      set_answer(e, static_cast<int64_t>(r), task_.train[batch[r]]);
    }
    if (e.has_input("rng")) {
      e.input("rng").data<int64_t>()[0] = options_.seed;
      e.input("rng").data<int64_t>()[1] = step;
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
    result.peak_bytes =
        std::max(result.peak_bytes, e.program().persistent_bytes + e.high_water_bytes());
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
  add_profiles();
  std::ranges::sort(result.profile, std::greater{}, &OpTime::seconds);
  if (method_.next_stage != nullptr) {
    const Json last = method_.next_stage(peft::complete_config(method_, config_), 1, store_);
    if (!last.is_null()) enter(last);
  }
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
    Executor& e = evaluation_executor(shape);
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
