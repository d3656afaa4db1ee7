#include "peft/adapter_files.h"

#include <algorithm>
#include <filesystem>

#include "autograd/builder.h"
#include "autograd/evaluate.h"
#include "autograd/passes/dead_code.h"
#include "core/atomic_file.h"
#include "core/error.h"

namespace graft::peft {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";

bool is_prompt(const Method& m) {
  return m.peft_type == "PROMPT_TUNING" || m.peft_type == "PREFIX_TUNING";
}

// Set to nothing in particular: what an older or newer writer adds without meaning anything by it.
bool is_unset(const Json& v) {
  return v.is_null() || v == false || v == "" || (v.is_structured() && v.empty());
}

const std::vector<std::string_view> kCommon = {"peft_type",
                                               "task_type",
                                               "base_model_name_or_path",
                                               "revision",
                                               "inference_mode",
                                               "auto_mapping",
                                               "peft_version",
                                               "fan_in_fan_out",
                                               "megatron_core",
                                               "qalora_group_size",
                                               "num_layers",
                                               "num_attention_heads",
                                               "token_dim",
                                               "num_transformer_submodules",
                                               "init_ia3_weights",
                                               "graft_method",
                                               "runtime_config"};

// Whether Hugging Face PEFT computes the same from this configuration: it does not know these.
bool hugging_face_has(const Method& method, const Json& config) {
  return !method.peft_type.empty() && config.value("use_gating", false) == false &&
         config.value("insert_at", "embedding.tokens") == "embedding.tokens" &&
         config.value("dora_rule", "peft") == "peft";
}

// Values that stand in files for what generates them.
std::map<std::string, Tensor> ejected(const Graph& adapted, const ParamStore& store) {
  const std::string prefix = "eject/";
  std::vector<std::string> names;
  for (const auto& [name, v] : adapted.outputs()) {
    if (name.starts_with(prefix)) names.push_back(name);
  }
  if (names.empty()) return {};
  Builder b(adapted);
  b.keep_outputs(names);
  std::map<std::string, Tensor> values;
  for (const auto& [name, t] : evaluate(live_part(b.finish()), {}, store).outputs) {
    values[name.substr(prefix.size())] = t;
  }
  return values;
}

}  // namespace

AdapterConfig read_adapter_config(const std::string& path) {
  const bool is_file = path.ends_with(".json");
  const std::string file = is_file ? path : path + "/adapter_config.json";
  const std::string folder = std::filesystem::path(file).parent_path();
  AdapterConfig a;
  a.raw = parse_json_file(file);
  const auto type = json_field<std::string>(a.raw, "peft_type", file);
  // Methods that Hugging Face PEFT does not have, or has under a type they share, carry graft's own
  // name.
  const auto own = json_field<std::string>(a.raw, "graft_method", file, "");
  a.method = own.empty() ? method_of_peft_type(type) : &find_method(own);
  if (a.method == nullptr) {
    std::string known;
    for (const Method& m : all_methods()) {
      if (!m.peft_type.empty()) known += (known.empty() ? "" : ", ") + std::string(m.peft_type);
    }
    throw UsageError("{}: no method here reads the type {}; known: {}", file, type, known);
  }
  const Json known = complete_config(*a.method, Json::object());
  Json given = Json::object();
  for (const auto& [key, value] : a.raw.items()) {
    if (known.contains(key)) {
      given[key] = value;
    } else if (!is_unset(value) && std::ranges::find(kCommon, key) == kCommon.end()) {
      a.ignored.push_back(key);
    }
  }
  // What Hugging Face PEFT stores of a projected prefix is the prefix, not its generator.
  const std::string weights = folder + "/adapter_model.safetensors";
  if (given.value("prefix_projection", false) && std::filesystem::exists(weights) &&
      !SafeTensors::open(weights).contains("prompt_encoder.embedding.weight")) {
    given["prefix_projection"] = false;
  }
  a.config = complete_config(*a.method, given);
  return a;
}

std::string file_key(const Param& param, const Method& method) {
  if (param.name.ends_with(".token_adapter.trainable_tokens_index")) return {};
  if (param.name.starts_with("prompt_encoder.")) return param.name;
  if (param.name == "prompt_embeddings") return param.name;
  if (is_prompt(method)) return "base_model." + param.name;
  if (method.peft_type == "LN_TUNING" && param.adapter.empty() &&
      !param.name.starts_with("classifier.")) {
    const size_t dot = param.name.rfind('.');
    return std::string(kPrefix) + param.name.substr(0, dot) + ".ln_tuning_layers" +
           param.name.substr(dot);
  }
  return std::string(kPrefix) + param.name;
}

void load_adapter(const std::string& folder, const AdapterConfig& config, const Graph& adapted,
                  ParamStore& store) {
  const SafeTensors file = SafeTensors::open(folder + "/adapter_model.safetensors");
  for (const Param& p : adapted.params()) {
    if (!p.trainable && p.adapter.empty()) continue;
    const std::string key = file_key(p, *config.method);
    if (key.empty()) continue;
    // Trained biases of adapted layers stand under the wrapper's name.
    std::vector<std::string> names{key, key.substr(key.starts_with(kPrefix) ? kPrefix.size() : 0)};
    if (const size_t dot = key.rfind('.'); dot != std::string::npos)
      names.push_back(key.substr(0, dot) + ".base_layer" + key.substr(dot));
    const auto found =
        std::ranges::find_if(names, [&](const std::string& n) { return file.contains(n); });
    if (found == names.end())
      throw FileError("{}: there is no tensor '{}' ({})", file.source(), key, p.type.str());
    const Tensor& t = file.tensor(*found);
    if (t.shape() != p.type.shape) {
      throw FileError(
          "{}: tensor '{}' should be {} but has shape {}; does the adapter belong to this model?",
          file.source(), *found, p.type.str(), t.shape().str());
    }
    store.set(p.name, t.cast(p.type.dtype).clone());
  }
}

void save_adapter(const std::string& folder, const Method& method, const Json& config,
                  const Graph& adapted, const ParamStore& store, const std::string& base_model) {
  make_folders(folder);
  std::map<std::string, Tensor> tensors;
  for (const Param& p : adapted.params()) {
    if (!p.trainable && p.adapter.empty()) continue;
    const std::string key = file_key(p, method);
    if (!key.empty()) tensors[key] = store.get(p.name);
  }
  for (auto& [name, tensor] : ejected(adapted, store)) tensors[name] = tensor;
  save_safetensors(folder + "/adapter_model.safetensors", tensors);
  std::map<std::string, Json> sorted;
  for (const auto& [key, value] : config.items()) sorted[key] = value;
  sorted["peft_type"] = hugging_face_has(method, config) ? std::string(method.peft_type)
                                                         : "GRAFT_" + std::string(method.name);
  sorted["graft_method"] = method.name;
  sorted["base_model_name_or_path"] = base_model;
  sorted["inference_mode"] = true;
  sorted["task_type"] = "SEQ_CLS";
  if (method.peft_type == "LORA") sorted["fan_in_fan_out"] = false;
  Json out = Json::object();
  for (auto& [key, value] : sorted) out[key] = value;
  write_json_file(folder + "/adapter_config.json", out);
}

}  // namespace graft::peft
