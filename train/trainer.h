// Fine-tunes an encoder with a method: one program per batch shape holds the whole step, all of
// them share parameters and one arena.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "autograd/executor.h"
#include "models/encoder.h"
#include "peft/method.h"
#include "train/task.h"

namespace graft {

// Defaults are the WordNet protocol: AdamW (0.9, 0.999, 1e-8), weight decay 0.01, clipping at 1,
// warm-up over a tenth, linear decay, head at 1e-2, the rest at the method's rate.
struct TrainOptions {
  int64_t steps = 250, batch = 32, seed = 0;
  double lr = 0;  // 0: the method's
  double head_lr = 1e-2, weight_decay = 0.01, max_grad_norm = 1;
  bool profile = false;
};

// One whole step of an adapted model with a "logits" output, as a graph: loss (cross entropy over
// `labels`, or for classes = 0 the squared error against `targets`), gradients, clipping, updates.
// `lr` is the rate of everything but the head.
Graph training_step(const peft::Adapted& adapted, int64_t classes, const TrainOptions& options,
                    double lr);

struct StepReport {
  int64_t step, steps;
  double loss, tokens_per_second, seconds_left;
  size_t peak_bytes;
};

struct TrainResult {
  std::string method;
  int64_t trainable = 0, total = 0;  // parameters; trainable without the head
  int64_t steps = 0;
  double final_loss = 0, seconds_per_step = 0, tokens_per_second = 0;
  double dev_metric = 0, test_metric = 0;
  size_t planned_peak_bytes = 0, peak_bytes = 0;  // of the largest step
  double eval_seconds = 0;                        // of the test set
  std::vector<double> losses;
  std::vector<size_t> timeline;  // arena bytes alive during the largest step
  std::vector<OpTime> profile;
};

class Trainer {
 public:
  Trainer(const ModelConfig& model, const Task& task, const peft::Method& method,
          const Json& hyperparameters, const TrainOptions& options);

  // Returns early when on_step says false (a user's Ctrl-C); the parameters are then those after
  // the last whole step.
  TrainResult train(const std::function<bool(const StepReport&)>& on_step = nullptr);
  double evaluate(const std::vector<Example>& rows,
                  double* seconds = nullptr);  // the task's metric

  // The adapted graph of one example, as adapter files are written from it.
  const peft::Adapted& adapted() const { return adapted_; }
  const peft::Method& method() const { return method_; }
  ParamStore& params() { return store_; }

 private:
  using Shape2 = std::pair<int64_t, int64_t>;  // batch, padded length
  // A stretch of the steps with one configuration of the method, and its plans.
  struct Stage {
    int64_t first_step;
    Json config;
    std::map<Shape2, std::shared_ptr<const Program>> programs;
  };
  Shape2 shape_of(const std::vector<Example>& rows, const std::vector<size_t>& batch) const;
  Graph base_graph(Shape2 shape) const;
  std::vector<Stage> stages(const std::vector<std::vector<size_t>>& batches) const;
  void enter(const Json& config);  // the method's next stage: parameters are carried over
  void start_from_fisher();        // train/fisher.cc
  Executor& training_executor(const Stage& stage, Shape2 shape);
  Executor& evaluation_executor(Shape2 shape);
  std::shared_ptr<Arena> arena_for(const Program& program) const;
  void set_answer(Executor& e, int64_t row, const Example& x) const;
  void fill(Executor& e, const std::vector<Example>& rows, const std::vector<size_t>& batch,
            Shape2 shape) const;

  ModelConfig model_;
  const Task& task_;
  const peft::Method& method_;
  Json config_;
  TrainOptions options_;
  int64_t virtual_tokens_ = 0;
  peft::Adapted adapted_;
  ParamStore store_;
  std::shared_ptr<Arena> arena_;
  std::map<Shape2, std::unique_ptr<Executor>> train_pool_, eval_pool_;
};

}  // namespace graft
