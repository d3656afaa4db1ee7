#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>

#include "autograd/compile.h"
#include "autograd/memory_report.h"
#include "core/error.h"
#include "core/process_memory.h"
#include "models/batch.h"
#include "models/fresh_weights.h"
#include "models/weights.h"
#include "train/image_task.h"
#include "train/metrics.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::ranges::nth_element(x, x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2));
  return x[x.size() / 2];
}

double scalar(const Executor& e, const char* output) {
  return static_cast<double>(e.output(output).data<float>()[0]);
}

}  // namespace

Trainer::Trainer(const ModelConfig& model, const Task& task, const peft::Method& method,
                 const Json& hyperparameters, const TrainOptions& options)
    : model_(model), task_(task), method_(method), config_(hyperparameters), options_(options) {
  restart_peak();
  resident_before_ = resident_bytes();
  if (options_.lr <= 0) options_.lr = method_.learning_rate;
  config_ = training_config(model_, method_, config_, options_.steps, task_.trained_as());
  first_config_ = config_;
  front_ = {peft::virtual_tokens(method_, config_), peft::position_shift(method_, config_)};
  check_fit();
  if (pictures()) image_config_ = load_image_config(model_);
  adapted_ =
      peft::apply(base_graph(smallest_shape()), method_, config_, {.model = model_.model_type});
  if (!options_.from_scratch) load_parameters(model_.folder, adapted_.graph, store_);
  peft::initialize(adapted_, store_, static_cast<uint64_t>(options_.seed));
  for (const Param& p : adapted_.graph.params()) {
    if (p.trainable) store_.own(p.name);
  }
}

std::string_view Trainer::task_type() const {
  if (pictures()) return "";  // it knows of none
  if (task_.trained_as() != TaskKind::language) return "SEQ_CLS";
  return two_stacks() ? "SEQ_2_SEQ_LM" : "CAUSAL_LM";
}

// A label stands for a token: none may be cut off, as it is from a text that is classified.
void Trainer::check_fit() const {
  if (pictures() && front_.virtual_tokens > 0)
    throw UsageError("{}: the model reads pictures, and virtual tokens stand before a text",
                     method_.name);
  if (task_.trained_as() != TaskKind::language) return;
  training_head(model_, TaskKind::language);  // throws where there is none
  size_t longest = 0;
  for (const auto* rows : {&task_.train, &task_.dev, &task_.test, &task_.also}) {
    for (const Example& x : *rows) longest = std::max(longest, x.ids.size());
  }
  const int64_t room = longest_row(model_, front_);
  if (static_cast<int64_t>(longest) > room) {
    throw UsageError(
        "rows of {} tokens do not fit into the {} positions of the model beside the method's {} "
        "virtual tokens; give --max-length {}",
        longest, longest_row(model_), front_.virtual_tokens, room);
  }
}

// ---- batches and their plans

std::vector<Trainer::Batch> Trainer::batches() const {
  std::vector<Batch> all;
  for (int64_t epoch = 0; static_cast<int64_t>(all.size()) < options_.steps; ++epoch) {
    auto more =
        epoch_batches(task_.train, static_cast<size_t>(options_.batch), options_.seed, epoch);
    all.insert(all.end(), more.begin(), more.end());
  }
  all.resize(static_cast<size_t>(options_.steps));
  return all;
}

// As even as possible; never more than there are rows.
std::vector<Trainer::Batch> Trainer::micro_batches(const Batch& batch) const {
  const size_t parts = std::min(static_cast<size_t>(options_.accumulate), batch.size());
  std::vector<Batch> all;
  for (size_t k = 0; k < parts; ++k) {
    all.emplace_back(batch.begin() + static_cast<std::ptrdiff_t>(batch.size() * k / parts),
                     batch.begin() + static_cast<std::ptrdiff_t>(batch.size() * (k + 1) / parts));
  }
  return all;
}

BatchShape Trainer::shape_of(const std::vector<Example>& rows, const Batch& batch) const {
  return graft::shape_of(rows, batch, answers(), longest_row(model_, front_));
}

BatchShape Trainer::smallest_shape() const {
  return padded_shape(1, 1, answers() ? 1 : 0, longest_row(model_, front_));
}

Graph Trainer::base_graph(BatchShape shape, For use) const {
  Graph graph = build_model(model_, {.batch = shape.rows,
                                     .length = shape.length + front_.virtual_tokens,
                                     .target_length = shape.target,
                                     .head = training_head(model_, task_.trained_as()),
                                     .labels = task_.outputs(),
                                     .dropout = options_.dropout && use == For::training});
  return options_.from_scratch ? with_fresh_weights(graph, model_) : graph;
}

std::shared_ptr<const Program> Trainer::plan_step(const Json& config, BatchShape shape) const {
  std::vector<MicroBatch> parts;
  for (const Batch& micro : micro_batches(Batch(static_cast<size_t>(shape.rows)))) {
    const auto rows = static_cast<int64_t>(micro.size());
    BatchShape part = shape;
    part.rows = rows;
    const Graph base = base_graph(part, For::training);
    parts.push_back({peft::apply(base, method_, config, {.training = true}),
                     static_cast<double>(rows) / static_cast<double>(shape.rows)});
  }
  return compile(training_step(parts, task_.trained_as(), options_, options_.lr), store_,
                 options_.memory);
}

// The stages of the run and a plan for each shape of their batches: memory is known before the
// first step.
std::vector<Trainer::Stage> Trainer::stages(const std::vector<Batch>& batches) const {
  std::vector<Stage> all{{0, config_, {}}};
  for (size_t step = 0; step < batches.size(); ++step) {
    if (method_.next_stage != nullptr) {
      const double progress = static_cast<double>(step) / static_cast<double>(batches.size());
      const Json next = method_.next_stage(all.back().config, progress, store_);
      if (!next.is_null()) all.push_back({static_cast<int64_t>(step), next, {}});
    }
    const BatchShape shape = shape_of(task_.train, batches[step]);
    auto& program = all.back().programs[shape];
    if (program == nullptr) program = plan_step(all.back().config, shape);
  }
  return all;
}

void Trainer::enter(const Json& config) {
  config_ = config;
  adapted_ = peft::apply(base_graph(smallest_shape()), method_, config_);
  peft::initialize(adapted_, store_, static_cast<uint64_t>(options_.seed));
  best_.clear();
  train_pool_.clear();
  eval_pool_.clear();
}

// Moments of what trained before go; those of what trains now begin.
void Trainer::begin_stage(const Stage& stage) {
  for (const std::string& name : store_.names()) {
    if (name.starts_with("optimizer.") && name != "optimizer.step") store_.erase(name);
  }
  store_.initialize(stage.programs.begin()->second->graph, static_cast<uint64_t>(options_.seed));
}

// ---- programs at work

std::shared_ptr<Arena> Trainer::arena_for(const Program& program) const {
  const bool fits = arena_ != nullptr && arena_->bytes() >= program.arena_bytes;
  return fits ? arena_ : nullptr;
}

Executor& Trainer::training_executor(const Stage& stage, BatchShape shape) {
  auto& slot = train_pool_[shape];
  if (slot == nullptr) {
    const auto& program = stage.programs.at(shape);
    slot = std::make_unique<Executor>(program, store_, arena_for(*program));
    slot->set_profile(options_.profile);
  }
  return *slot;
}

void Trainer::fill(Executor& e, const std::vector<Example>& rows, const Batch& batch,
                   const BatchShape& shape, const std::string& suffix) const {
  if (!pictures()) return fill_batch(e, model_, rows, batch, shape, front_, suffix);
  std::vector<const Example*> of_batch;
  for (size_t i : batch) of_batch.push_back(&rows[i]);
  fill_pictures(of_batch, image_config_, e.input("pixel_values" + suffix));
}

void Trainer::set_labels(Executor& e, const std::vector<Example>& rows, const Batch& batch,
                         const BatchShape& shape, const std::string& suffix) const {
  if (task_.trained_as() == TaskKind::language) {
    const std::span<int64_t> labels = e.input("labels" + suffix).span<int64_t>();
    std::ranges::fill(labels, kNoLabel);
    // Nothing is asked for at virtual tokens, which a decoder with an encoder does not read.
    const int64_t front = shape.target > 0 ? 0 : front_.virtual_tokens,
                  width = shape.target > 0 ? shape.target : front + shape.length;
    for (size_t r = 0; r < batch.size(); ++r)
      std::ranges::copy(rows[batch[r]].next,
                        labels.begin() + static_cast<int64_t>(r) * width + front);
    return;
  }
  for (size_t r = 0; r < batch.size(); ++r) {
    const Example& x = rows[batch[r]];
    if (task_.kind == TaskKind::classification) {
      e.input("labels" + suffix).data<int64_t>()[r] = x.label;
    } else {
      e.input("targets" + suffix).data<float>()[r] = static_cast<float>(x.target);
    }
  }
}

// Every label of the batch counts the same, whichever part it is in. A part's loss is multiplied by
// its share of the rows, which is taken out here.
void Trainer::set_label_weights(Executor& e, const std::vector<Batch>& parts) const {
  int64_t labels = 0;
  size_t rows = 0;
  for (const Batch& part : parts) {
    rows += part.size();
    for (size_t i : part) labels += predicted_tokens(task_.train[i]);
  }
  for (size_t k = 0; k < parts.size(); ++k) {
    const double share = static_cast<double>(parts[k].size()) / static_cast<double>(rows);
    *e.input("label_weight" + part_suffix(k, parts.size())).data<float>() =
        static_cast<float>(1 / (share * static_cast<double>(labels)));
  }
}

void Trainer::run_step(const Stage& stage, const Batch& batch, int64_t step, TrainResult& result) {
  const BatchShape shape = shape_of(task_.train, batch);
  Executor& e = training_executor(stage, shape);
  const auto start = Clock::now();
  const std::vector<Batch> parts = micro_batches(batch);
  for (size_t k = 0; k < parts.size(); ++k) {
    const std::string suffix = part_suffix(k, parts.size());
    fill(e, task_.train, parts[k], shape, suffix);
    set_labels(e, task_.train, parts[k], shape, suffix);
    if (e.has_input("rng" + suffix)) {
      e.input("rng" + suffix).data<int64_t>()[0] = options_.seed;
      e.input("rng" + suffix).data<int64_t>()[1] = step;
    }
  }
  if (task_.trained_as() == TaskKind::language) set_label_weights(e, parts);
  e.run();
  const double took = since(start);
  double tokens = 0;
  for (size_t i : batch) {
    const Example& x = task_.train[i];
    tokens += pictures()
                  ? static_cast<double>(image_tokens(model_))
                  : static_cast<double>(x.ids.size() + (shape.target > 0 ? x.next.size() : 0));
  }
  const double loss = scalar(e, "loss");
  if (!std::isfinite(loss)) {
    throw Error(fmt::format("the loss is {} at step {}; a smaller --lr than {} may help", loss,
                            step, options_.lr));
  }
  progress_.curve.push_back({step + 1, loss, scalar(e, "lr"),
                             options_.max_grad_norm > 0 ? scalar(e, "grad_norm") : 0, tokens / took,
                             std::numeric_limits<double>::quiet_NaN()});
  seconds_.push_back(took);
  total_seconds_ += took;
  tokens_ += tokens;
  result.peak_bytes =
      std::max(result.peak_bytes, e.program().persistent_bytes + e.high_water_bytes());
}

void Trainer::evaluate_progress(int64_t step) {
  const double metric = evaluate(task_.dev).at(task_.metric);
  progress_.curve.back().dev = metric;
  const bool lower = lower_is_better(task_.metric);
  const bool better = lower ? metric < progress_.best : metric > progress_.best;
  if (!options_.keep_best || (!best_.empty() && !better)) return;
  progress_.best = metric;
  progress_.best_step = step;
  best_.clear();
  for (const auto& [name, t] : trained(false)) best_[name] = t.clone();
}

void Trainer::expect_trainable() const {
  if (peft::trainable_count(adapted_.graph) > 0) return;
  throw UsageError("the method '{}' finds nothing to train in a {} model under this task",
                   method_.name, model_.model_type);
}

TrainResult Trainer::train(const OnStep& on_step) {
  if (task_.train.empty()) throw UsageError("the task {} has no rows to train on", task_.name);
  if (options_.eval_every > 0 && task_.dev.empty()) {
    throw UsageError("--eval-every looks at development rows, and the task {} has none; see --dev",
                     task_.name);
  }
  expect_trainable();
  TrainResult result;
  result.method = method_.name;
  result.trainable = peft::trainable_count(adapted_.graph, false);
  for (const Param& p : adapted_.graph.params()) {
    if (!peft::is_task_head(p.name) && is_float(p.type.dtype)) {
      result.total += p.type.shape.elements();
    }
  }
  const std::vector<Batch> order = batches();
  const std::vector<Stage> run = stages(order);
  std::shared_ptr<const Program> largest;
  size_t arena = 0;
  for (const Stage& stage : run) {
    for (const auto& [shape, program] : stage.programs) {
      if (largest == nullptr || program->peak_bytes() > largest->peak_bytes()) largest = program;
      arena = std::max(arena, program->arena_bytes);
    }
  }
  result.planned_peak_bytes = largest->peak_bytes();
  result.planned_over_model_bytes = largest->peak_bytes() - memory_parts(*largest).weights;
  result.timeline = memory_timeline(*largest);
  expect_budget(*largest, options_.memory);
  if (options_.offload.empty()) {
    arena_ = std::make_shared<Arena>(arena);
  } else {
    arena_ = std::make_shared<Arena>(arena, options_.offload);
    result.offloaded_bytes = arena;
  }

  size_t stage = 0;
  if (options_.resume) {
    stage = resume(run);
  } else {
    result.interrupted = !adapted_.fisher.params.empty() && !start_from_fisher(on_step);
    if (result.interrupted) return result;
    begin_stage(run[0]);
  }
  for (int64_t step = progress_.step; step < options_.steps && !result.interrupted; ++step) {
    if (stage + 1 < run.size() && run[stage + 1].first_step == step) {
      add_profile(result);
      enter(run[++stage].config);
      begin_stage(run[stage]);
    }
    run_step(run[stage], order[static_cast<size_t>(step)], step, result);
    progress_.step = step + 1;
    const bool last = progress_.step == options_.steps;
    if (options_.eval_every > 0 && (last || progress_.step % options_.eval_every == 0)) {
      evaluate_progress(progress_.step);
    }
    const double each = total_seconds_ / static_cast<double>(seconds_.size());
    result.interrupted =
        on_step && !on_step({"training", progress_.step, options_.steps,
                             progress_.curve.back().loss, tokens_ / total_seconds_,
                             each * static_cast<double>(options_.steps - progress_.step),
                             result.planned_peak_bytes});
    const bool due = options_.save_every > 0 && progress_.step % options_.save_every == 0;
    if (!options_.checkpoint.empty() && !last && (due || result.interrupted)) save(run[stage]);
  }
  if (!train_pool_.empty())
    result.rss_over_model_bytes = train_pool_.begin()->second->peak_over_weights(resident_before_);
  add_profile(result);
  std::ranges::sort(result.profile, std::greater{}, &OpTime::seconds);
  for (const auto& [name, t] : best_) store_.set(name, t);
  if (method_.next_stage != nullptr) {
    const Json last = method_.next_stage(config_, 1, store_);
    if (!last.is_null()) enter(last);
  }
  result.steps = progress_.step;
  result.best_step = progress_.best_step;
  result.curve = progress_.curve;
  result.final_loss = result.curve.back().loss;
  result.seconds_per_step = median(seconds_);
  result.tokens_per_second = total_seconds_ > 0 ? tokens_ / total_seconds_ : 0;
  if (result.interrupted) return result;
  result.dev = evaluate(task_.dev);
  if (!task_.also.empty()) {
    result.also = evaluate(task_.also);
    result.also_metric = result.also.at(task_.metric);
  }
  result.test = evaluate(task_.test, &result.eval_seconds);
  result.metric = result.test.at(task_.metric);
  if (!options_.checkpoint.empty()) {
    std::error_code none;
    std::filesystem::remove(options_.checkpoint, none);
  }
  return result;
}

void Trainer::add_profile(TrainResult& result) const {
  for (const auto& [shape, e] : train_pool_) {
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
}

}  // namespace graft
