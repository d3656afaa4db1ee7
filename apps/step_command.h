// A training step that nothing is computed for yet: what graft plan and graft bench share.
#pragma once

#include <memory>
#include <string>

#include "apps/command.h"
#include "autograd/program.h"
#include "models/batch.h"
#include "models/config.h"
#include "peft/method.h"
#include "train/step.h"
#include "train/task.h"

namespace graft {

struct StepCommand {
  CommonOptions common;
  MethodOptions method;
  MemoryOptions memory;
  std::string model, task_kind;
  StepOptions step;
  int64_t batch = 32;
  bool dropout = false;
  int64_t length = 0, target_length = 0, labels = 0;  // 0: see the options
};
void add_step_options(CLI::App& command, StepCommand& options);
// Which head stands on the model.
void add_task_kind_options(CLI::App& command, std::string& task_kind, int64_t& labels);

// classification, regression or language; empty: what the model is trained for as a rule.
TaskKind task_kind_of(const std::string& name, const ModelConfig& model);
const char* name_of(TaskKind kind);

enum class StartWeights : uint8_t { given, drawn };

struct PlannedStep {
  ModelConfig model;
  const peft::Method* method = nullptr;
  PlanOptions memory;  // that the program is planned for
  TaskKind kind = TaskKind::classification;
  int64_t length = 0;         // tokens of a row; of a picture: its patches and the class token
  int64_t target_length = 0;  // tokens that a decoder with an encoder says; 0: there is none
  int64_t outputs = 0;        // that a loss compares: classes, tokens of the vocabulary, or 1
  InFront front;
  peft::Adapted adapted;  // as trained
  std::shared_ptr<const Program> program;
};

// The step that graft tune would train with these shapes. Of a folder's weights it asks for the
// types in which they are stored, no more; a config.json alone is planned in 32 bits.
PlannedStep plan_step(const StepCommand& options, StartWeights start = StartWeights::given);

}  // namespace graft
