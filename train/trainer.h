// Trains a model with a method: one program per batch shape holds the whole step, all of
// them share parameters and one arena.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/executor.h"
#include "autograd/planner.h"
#include "models/family.h"
#include "models/image.h"
#include "models/model.h"
#include "peft/method.h"
#include "train/batches.h"
#include "train/checkpoint.h"
#include "train/step.h"
#include "train/task.h"

namespace graft {

struct TrainOptions : StepOptions {
  int64_t batch = 32, seed = 0;
  int64_t accumulate = 1;  // micro-batches per step
  int64_t eval_every = 0;  // steps between evaluations on the dev rows; 0: only at the end
  bool keep_best = true;   // with eval_every: end with the parameters of the best evaluation
  // File for what Ctrl-C and every save_every steps leave behind; empty: none.
  std::string checkpoint;
  int64_t save_every = 0;
  bool resume = false;   // from that file
  bool dropout = false;  // the model's own, at the rates of its config
  // The model's weights are drawn, not read: its folder has none.
  bool from_scratch = false;
  // A run that needs more than its budget is refused.
  PlanOptions memory;
  std::string offload;  // folder that the step's working memory is in; empty: it is not
  bool profile = false;
};

// Of training, or of what a method looks at before it ("Fisher information", steps being rows).
struct StepReport {
  std::string_view work;
  int64_t step, steps;
  double loss, tokens_per_second, seconds_left;
  size_t peak_bytes;
};

// One step as curves show it.
struct CurvePoint {
  int64_t step;
  double loss, lr, grad_norm, tokens_per_second;
  double dev;  // the task's metric; NaN where it was not evaluated
};

struct TrainResult {
  std::string method;
  int64_t trainable = 0, total = 0;  // parameters; trainable without the head
  int64_t steps = 0;
  bool interrupted = false;
  double final_loss = 0, seconds_per_step = 0, tokens_per_second = 0;
  std::map<std::string, double> dev, test, also;  // metrics
  double metric = 0, also_metric = 0;  // the task's own, on the test rows and on what else there is
  int64_t best_step = 0;               // with eval_every: where the parameters come from
  size_t planned_peak_bytes = 0, peak_bytes = 0;  // of the largest step
  size_t offloaded_bytes = 0;                     // of these, in a file
  // Beside the model as runs read it: planned, and what the process had at most while it trained.
  size_t planned_over_model_bytes = 0, rss_over_model_bytes = 0;
  double eval_seconds = 0;  // of the test set
  std::vector<CurvePoint> curve;
  std::vector<size_t> timeline;  // arena bytes alive during the largest step
  std::vector<OpTime> profile;
};

class Trainer {
 public:
  Trainer(const ModelConfig& model, const Task& task, const peft::Method& method,
          const Json& hyperparameters, const TrainOptions& options);

  // Returns early when on_step says false (a user's Ctrl-C); the parameters are then those after
  // the last whole step, and the checkpoint is written.
  using OnStep = std::function<bool(const StepReport&)>;
  TrainResult train(const OnStep& on_step = nullptr);
  // Throws UsageError where the method finds nothing to train.
  void expect_trainable() const;
  // Metrics on rows of the task.
  std::map<std::string, double> evaluate(const std::vector<Example>& rows,
                                         double* seconds = nullptr);
  // `seconds`: the time that the model took.
  Predictions predict(const std::vector<Example>& rows, double* seconds = nullptr);

  // The adapted graph of one example, as adapter files are written from it.
  const peft::Adapted& adapted() const { return adapted_; }
  const peft::Method& method() const { return method_; }
  // As Hugging Face PEFT calls the kind of task.
  std::string_view task_type() const;
  ParamStore& params() { return store_; }

 private:
  using Batch = std::vector<size_t>;  // rows
  // A stretch of the steps with one configuration of the method, and its plans.
  struct Stage {
    int64_t first_step;
    Json config;
    std::map<BatchShape, std::shared_ptr<const Program>> programs;
  };
  // What a checkpoint restores, beside the parameters.
  struct Progress {
    int64_t step = 0;  // done
    std::vector<CurvePoint> curve;
    double best = 0;
    int64_t best_step = 0;
  };

  std::vector<Batch> batches() const;
  std::vector<Batch> micro_batches(const Batch& batch) const;
  BatchShape shape_of(const std::vector<Example>& rows, const Batch& batch) const;
  BatchShape smallest_shape() const;
  enum class For : uint8_t { evaluation, training };
  Graph base_graph(BatchShape shape, For use = For::evaluation) const;
  bool pictures() const { return model_.family->kind == Family::Kind::image; }
  bool two_stacks() const { return model_.family->decode != nullptr; }
  bool answers() const { return two_stacks() && task_.trained_as() == TaskKind::language; }
  void check_fit() const;
  std::shared_ptr<const Program> plan_step(const Json& config, BatchShape shape) const;
  std::vector<Stage> stages(const std::vector<Batch>& batches) const;
  void enter(const Json& config);  // the method's next stage: parameters are carried over
  void begin_stage(const Stage& stage);
  bool start_from_fisher(const OnStep& on_step);  // train/fisher.cc; false: interrupted
  void run_step(const Stage& stage, const Batch& batch, int64_t step, TrainResult& result);
  void evaluate_progress(int64_t step);
  void add_profile(TrainResult& result) const;

  Json run_description() const;
  std::map<std::string, Tensor> trained(bool with_states) const;
  void save(const Stage& stage) const;
  size_t resume(const std::vector<Stage>& stages);  // the stage it stands in

  Executor& training_executor(const Stage& stage, BatchShape shape);
  Executor& evaluation_executor(BatchShape shape);
  std::shared_ptr<Arena> arena_for(const Program& program) const;
  // What the model says to each row of a task that is text to text.
  std::vector<std::vector<int64_t>> say(const std::vector<Example>& rows, double& seconds);
  // Inputs and labels of some rows.
  void fill(Executor& e, const std::vector<Example>& rows, const Batch& batch,
            const BatchShape& shape, const std::string& suffix = "") const;
  void set_labels(Executor& e, const std::vector<Example>& rows, const Batch& batch,
                  const BatchShape& shape, const std::string& suffix = "") const;
  void set_label_weights(Executor& e, const std::vector<Batch>& parts) const;

  ModelConfig model_;
  const Task& task_;
  const peft::Method& method_;
  Json config_, first_config_;  // of the present stage, of the first
  TrainOptions options_;
  InFront front_;  // of every text
  ImageConfig image_config_;
  peft::Adapted adapted_;
  ParamStore store_;
  size_t resident_before_ = 0;  // of the process, without a model
  Progress progress_;
  std::map<std::string, Tensor> best_;
  std::vector<double> seconds_;
  double tokens_ = 0, total_seconds_ = 0;
  std::shared_ptr<Arena> arena_;
  std::map<BatchShape, std::unique_ptr<Executor>> train_pool_, eval_pool_;
};

}  // namespace graft
