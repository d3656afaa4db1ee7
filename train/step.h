// One training step of an adapted model, as a graph.
#pragma once

#include <span>

#include "autograd/graph.h"
#include "models/model.h"
#include "peft/method.h"
#include "train/task.h"

namespace graft {

// Defaults are the WordNet protocol: AdamW (0.9, 0.999, 1e-8), weight decay 0.01, clipping at 1,
// warm-up over a tenth, linear decay, head at 1e-2, the rest at the method's rate.
struct StepOptions {
  int64_t steps = 250;
  double lr = 0;  // of everything but the head; 0: the method's
  double head_lr = 1e-2, weight_decay = 0.01, max_grad_norm = 1;
  std::string optim = "adamw";  // or adamw_8bit (nn/optimizer.h)
};

// What a model is trained for where nothing else is said: language if it is a decoder, with an
// encoder or without, whose class does not classify.
TaskKind usual_task(const ModelConfig& model);
// The head under which such a task is trained: the class that says text, or task_head(). Throws
// UsageError where the model has none.
Head training_head(const ModelConfig& model, TaskKind kind);

// The complete configuration under which a method trains for so many steps: the head of a
// classification or regression is saved with it unless told otherwise (a language model's is
// pretrained like the rest), targets are the reference's for such a model, and schedules without a
// length get that of the run.
Json training_config(const ModelConfig& model, const peft::Method& method, Json given,
                     int64_t steps, TaskKind kind = TaskKind::classification);

// One micro-batch: an adapted model with a "logits" output, and its share of the step's rows.
struct MicroBatch {
  peft::Adapted adapted;
  double share = 1;
};

// The loss of logits, with inputs for what they should be: cross entropy over `labels` [B]; squared
// error against `targets` [B]; for language the cross entropy over `labels` [B T], summed over all
// that is to be predicted and multiplied by `label_weight`: the parts of a batch may have more and
// fewer labels, so that the caller says what one of them counts.
Value task_loss(Builder& b, Value logits, TaskKind kind, const std::string& suffix = "");

// Loss, gradients, clipping, updates. Several micro-batches run one after another and their
// gradients add up; the inputs of part k are called NAME/k then. Outputs: loss, grad_norm, lr.
Graph training_step(std::span<const MicroBatch> parts, TaskKind kind, const StepOptions& options,
                    double lr);

// What follows an input's name in part k of `parts`.
std::string part_suffix(size_t k, size_t parts);

}  // namespace graft
