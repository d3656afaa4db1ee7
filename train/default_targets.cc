#include "train/default_targets.h"

#include <string_view>

namespace graft {
namespace {

// The rows of the reference's tables (peft/utils/constants.py, 0.21) that roles do not give.
struct Row {
  std::string_view peft_type, model_type;
  std::initializer_list<const char*> targets, feed_forward;
};

constexpr Row kRows[] = {
    {"IA3", "bert", {"key", "value", "output.dense"}, {"output.dense"}},
    {"IA3", "roberta", {"key", "value", "output.dense"}, {"output.dense"}},
    {"IA3", "opt", {"q_proj", "k_proj", "fc2"}, {"fc2"}},
    {"IA3", "qwen2", {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"IA3", "qwen3", {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"IA3", "gemma", {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"IA3", "gemma2", {"q_proj", "v_proj", "down_proj"}, {"down_proj"}},
    {"ADALORA", "opt", {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}, {}},
    {"ADALORA", "roberta", {"query", "key", "value", "dense"}, {}},
};

bool is_set(const Json& config, const char* key) {
  return config.contains(key) && !config.at(key).is_null();
}

}  // namespace

void set_default_targets(const ModelConfig& model, const peft::Method& method, Json& config) {
  if (is_set(config, "target_modules")) return;
  for (const Row& row : kRows) {
    if (row.peft_type != method.peft_type || row.model_type != model.model_type) continue;
    config["target_modules"] = row.targets;
    if (row.feed_forward.size() > 0 && !is_set(config, "feedforward_modules"))
      config["feedforward_modules"] = row.feed_forward;
  }
}

}  // namespace graft
