// A parameter-efficient fine-tuning method: what it is called, what it may be told, and the rewrite
// it performs.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/builder.h"
#include "core/json.h"
#include "peft/rewrite.h"

namespace graft::peft {

struct Method {
  std::string_view name;       // "lora"
  std::string_view family;     // additive: adapter, additive: soft prompt, selective,
                               // reparametrization, hybrid, baseline
  std::string_view verbs;      // "freeze, reparametrize"
  std::string_view reference;  // paper
  std::string_view peft_type;  // of Hugging Face PEFT; empty: it has none. Of several methods with
                               // one type the first reads it
  double learning_rate;        // a sensible one for small encoders
  Json (*defaults)();
  void (*apply)(Rewrite& rewrite, const Json& config);
  // Rows that the method puts in front of the input; their ids are ignored.
  int64_t (*virtual_tokens)(const Json& config) = nullptr;
  // A method that trains in stages: the configuration that takes over once `progress` (0..1) of the
  // steps are done, null while the present one goes on. The initializers of the new rewrite carry
  // the parameters over, in the same store. Called with 1 at the end of training.
  Json (*next_stage)(const Json& config, double progress, const ParamStore& store) = nullptr;
  // Added to every position of the text: a prefix counts as tokens before it (Hugging Face PEFT).
  int64_t (*position_shift)(const Json& config) = nullptr;
};

std::span<const Method> all_methods();
const Method& find_method(std::string_view name);          // UsageError that lists the known names
const Method* method_of_peft_type(std::string_view type);  // null where there is none

// The method's defaults overridden by `given`; throws UsageError on a hyperparameter that the
// method does not have, or of another type.
Json complete_config(const Method& method, const Json& given);

struct Adapted {
  Graph graph;
  Delta delta;
  Json config;
  std::vector<Initializer> initializers;
  std::vector<std::string> replaced;  // parameters of the base that these change
  FisherStart fisher;
  std::vector<AfterStep> after_step;
};

// The rewritten graph: base frozen, the method applied, and what given["modules_to_save"] names (a
// task head) unfrozen. Throws UsageError, naming method, model and site, where the method does not
// fit.
Adapted apply(const Graph& base, const Method& method, const Json& given,
              const ApplyOptions& options = {});

// The task's loss plus the penalties of the method (outputs "penalty/..."). Call before
// keep_outputs.
Value add_penalties(Builder& b, Value loss);

// Adds what the method does at the end of a step, in the update phase. `updated`: from the
// optimizer.
void finish_step(Builder& b, const Adapted& adapted, const std::map<std::string, Value>& gradients,
                 const std::map<std::string, Value>& updated);

// Draws what has an initializer and runs the method's own. Parameters that are stored already keep
// their values.
void initialize(const Adapted& adapted, ParamStore& store, uint64_t seed);

// Rows that the method puts in front of the input, from a complete configuration; 0 for most.
int64_t virtual_tokens(const Method& method, const Json& config);
// What it adds to the positions of a text; 0 for most.
int64_t position_shift(const Method& method, const Json& config);

int64_t trainable_count(const Graph& graph, bool with_saved_modules = true);

}  // namespace graft::peft
