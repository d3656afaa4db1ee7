// Adapter folders in the format of Hugging Face PEFT: adapter_config.json and
// adapter_model.safetensors.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/safetensors.h"
#include "peft/method.h"

namespace graft::peft {

// The method and hyperparameters that an adapter_config.json names. Fields that the method does not
// know are kept in `raw` and, where they are set to something, listed in `ignored`. Throws
// FileError, UsageError for a type that no method here has.
struct AdapterConfig {
  const Method* method = nullptr;
  Json config;
  Json raw;
  std::vector<std::string> ignored;
};
AdapterConfig read_adapter_config(const std::string& path);  // the folder, or the file itself
// The same for text in memory; `source` names it in errors.
AdapterConfig parse_adapter_config(std::string_view text, const std::string& source);

// Under which key a parameter is stored; empty where files do not hold it.
std::string file_key(const Param& param, const Method& method);

// Fills the store with the trained values of an adapter folder. Throws FileError where a tensor is
// missing or of the wrong shape.
void load_adapter(const std::string& folder, const AdapterConfig& config, const Graph& adapted,
                  ParamStore& store);

// Writes trained values and configuration atomically, the weights first: a folder with a
// configuration is whole, and a failure leaves what was there before. `task_type`: as Hugging Face
// PEFT names it.
void save_adapter(const std::string& folder, const Method& method, const Json& config,
                  const Graph& adapted, const ParamStore& store, const std::string& base_model,
                  const std::string& task_type = "SEQ_CLS");

}  // namespace graft::peft
