// Commands on a model or an adapter as it is: eval, embed, merge, inspect, plan.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace graft {

// Metrics of a base model (a fresh head: chance) or of an adapter on a task's test set.
Json evaluate_model(const std::string& model, const std::string& adapter, const std::string& task,
                    int64_t batch, int64_t max_length);

// One unit vector per text: the mean of the last hidden states.
Json embed_texts(const std::string& model, const std::string& adapter,
                 const std::vector<std::string>& texts);

// Folds an adapter into a plain model folder; says how far the merged model is from the adapted one
// on a probe batch.
Json merge_adapter(const std::string& model, const std::string& adapter, const std::string& output);

// What is in a model or adapter folder, or a safetensors file, and whether it is whole.
Json inspect_path(const std::string& path);

// Parameters, memory by what it serves and operations of one training step, from shapes alone.
Json plan_step(const std::string& model, const std::string& method, const Json& set, int64_t batch,
               int64_t length, int64_t labels);

}  // namespace graft
