// What a comparison of methods says: a table for the terminal, JSON, and one self-contained page with plots.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "train/trainer.h"

namespace graft {

Json to_json(const TrainResult& result, const std::string& metric);
// base_seconds: evaluating the test set without an adapter; 0 leaves the overhead out.
std::string comparison_table(const std::vector<TrainResult>& results, const std::string& metric, double base_seconds);
std::string profile_table(const TrainResult& result);
// `all`: the content of results.json.
std::string comparison_report(const std::vector<TrainResult>& results, const Json& all);

}  // namespace graft
