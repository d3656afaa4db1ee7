// What a comparison of methods says: a table for the terminal, JSON, and one self-contained page
// with plots.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "train/trainer.h"

namespace graft {

// One method under one recipe, once per seed.
struct ComparedMethod {
  std::vector<TrainResult> seeds;
  size_t storage_bytes = 0;  // of its adapter file

  const TrainResult& first() const { return seeds[0]; }
  double mean() const;       // of the metric
  double deviation() const;  // of the sample; 0 for one seed
  double also() const;       // mean of the metric on what else was measured
};

// A method that does not fit the model or the task.
struct LeftOut {
  std::string method, reason;
};

struct Comparison {
  std::string task, metric;
  int64_t steps = 0, batch = 0;
  double base_seconds = 0;  // evaluating the test rows without an adapter; 0: not measured
  std::vector<ComparedMethod> methods;
  std::vector<LeftOut> left_out;
  std::string also;  // what else was measured; empty: nothing
  // Metrics before training, where a task has some that mean anything: those of language.
  std::map<std::string, double> base, base_also;

  double overhead(const ComparedMethod& m) const;  // of inference, over the base model; 0: unknown
};

// The metric's figure, in percent where it is a fraction.
double shown(const std::string& metric, double value);

Json to_json(const TrainResult& result);
Json to_json(const Comparison& comparison);
std::string table_of(const Comparison& comparison);
std::string profile_table(const TrainResult& result);
// step, loss, lr, grad_norm, tokens_per_second, dev
std::string curve_csv(const TrainResult& result);
std::string report_page(const Comparison& comparison);  // train/report.cc

}  // namespace graft
