// Optimizers as builders of graph: updates, their states, the learning rate and clipping are nodes
// of the training step.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "autograd/builder.h"

namespace graft {

// Hyperparameters named as in torch.optim and transformers; each kind reads its own.
struct OptimizerConfig {
  // sgd, adam, adamw, lion, rmsprop, adagrad, adafactor, torch_adafactor; adam_8bit and adamw_8bit:
  // moments in blocks of 8-bit codes (kernels/dynamic_map.h), but for parameters of fewer than 4096
  // elements and for tables of embeddings
  std::string kind = "adamw";
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool amsgrad = false;
  double momentum = 0, dampening = 0;
  bool nesterov = false;
  double alpha = 0.99;
  AdafactorAttrs adafactor;
};

// Parameters that share a learning rate and weight decay.
struct ParamGroup {
  std::vector<std::string> params;
  ScheduleAttrs schedule;
  double weight_decay = 0;
};

// Adds the update of every parameter that has a gradient, to be run once per step. States are
// parameters of kind `state` named "optimizer.NAME.STATE"; "optimizer.step" counts. max_grad_norm
// <= 0: no clipping; else torch.nn.utils.clip_grad_norm_ over all gradients. Named outputs:
// "lr/GROUP", and "grad_norm" where gradients are clipped. Returns the new values by name.
std::map<std::string, Value> add_optimizer(Builder& b,
                                           const std::map<std::string, Value>& gradients,
                                           const OptimizerConfig& config,
                                           const std::vector<ParamGroup>& groups,
                                           double max_grad_norm);

}  // namespace graft
