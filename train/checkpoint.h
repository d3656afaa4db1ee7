// A training run that can go on: everything that changes during it, in one file.
#pragma once

#include <map>
#include <string>

#include "core/json.h"
#include "core/tensor.h"

namespace graft {

struct Checkpoint {
  Json run;       // what the run is: options, data, model; a resumed run must be the same
  Json progress;  // where it stands
  std::map<std::string, Tensor> parameters;  // trained values, moments, positions
  std::map<std::string, Tensor> best;        // trained values of the best evaluation so far
};

// One safetensors file, written atomically: an interrupted write leaves the previous one.
void save_checkpoint(const std::string& path, const Checkpoint& checkpoint);
Checkpoint load_checkpoint(const std::string& path);  // throws FileError

// Throws UsageError naming the first difference between a checkpoint's run and the present one.
void expect_same_run(const Json& checkpoint, const Json& present, const std::string& path);

}  // namespace graft
