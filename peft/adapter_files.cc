#include "peft/adapter_files.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "autograd/builder.h"
#include "autograd/evaluate.h"
#include "autograd/passes/dead_code.h"
#include "core/atomic_file.h"
#include "core/error.h"

namespace graft::peft {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kEjected = "eject/";  // outputs with what stands in files

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
  return !method.peft_type.empty() && !config.value("use_gating", false) &&
         config.value("insert_at", "embedding.tokens") == "embedding.tokens" &&
         config.value("dora_rule", "peft") == "peft";
}

// Values that stand in files for what generates them.
std::map<std::string, Tensor> ejected(const Graph& adapted, const ParamStore& store) {
  const std::string prefix(kEjected);
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

AdapterConfig parse_adapter_config(std::string_view text, const std::string& source) {
  AdapterConfig a;
  a.raw = parse_json(text, source);
  const auto type = json_field<std::string>(a.raw, "peft_type", source);
  // Methods that Hugging Face PEFT does not have, or has under a type they share, carry graft's own
  // name.
  const auto own = json_field<std::string>(a.raw, "graft_method", source, "");
  a.method = own.empty() ? method_of_peft_type(type) : &find_method(own);
  if (a.method == nullptr) {
    std::string known;
    for (const Method& m : all_methods()) {
      if (!m.peft_type.empty()) known += (known.empty() ? "" : ", ") + std::string(m.peft_type);
    }
    throw UsageError("{}: no method here reads the type {}; known: {}", source, type, known);
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
  try {
    a.config = complete_config(*a.method, given);
  } catch (const UsageError& e) {
    throw UsageError("{}: {}", source, e.what());
  }
  return a;
}

AdapterConfig read_adapter_config(const std::string& path) {
  const bool is_file = path.ends_with(".json");
  const std::string file = is_file ? path : path + "/adapter_config.json";
  AdapterConfig a = parse_adapter_config(read_file(file), file);
  // What Hugging Face PEFT stores of a projected prefix is the prefix, not its generator.
  const std::string weights =
      std::filesystem::path(file).parent_path() / "adapter_model.safetensors";
  std::error_code none;
  if (a.config.value("prefix_projection", false) && std::filesystem::exists(weights, none) &&
      !SafeTensors::open(weights).contains("prompt_encoder.embedding.weight")) {
    a.config["prefix_projection"] = false;
  }
  return a;
}

std::string file_key(const Param& param, const Method& method) {
  if (param.name.ends_with(".token_adapter.trainable_tokens_index")) return {};
  if (param.name.starts_with("prompt_encoder.")) return param.name;
  if (param.name == "prompt_embeddings") return param.name;
  if (is_prompt(method)) return "base_model." + param.name;
  if (method.peft_type == "LN_TUNING" && param.adapter.empty() && !is_task_head(param.name)) {
    const size_t dot = param.name.rfind('.');
    return std::string(kPrefix) + param.name.substr(0, dot) + ".ln_tuning_layers" +
           param.name.substr(dot);
  }
  return std::string(kPrefix) + param.name;
}

void load_adapter(const std::string& folder, const AdapterConfig& config, const Graph& adapted,
                  ParamStore& store) {
  const SafeTensors file = SafeTensors::open(folder + "/adapter_model.safetensors");
  std::set<std::string> unused;
  for (const auto& [name, t] : file.tensors()) {
    // With bias = "all" PEFT writes the biases of saved modules again, under its wrapper's names.
    const bool copy = name.find(".modules_to_save.") != std::string::npos ||
                      name.find(".original_module.") != std::string::npos;
    if (!copy) unused.insert(name);
  }
  for (const auto& [name, v] : adapted.outputs()) {
    if (name.starts_with(kEjected)) unused.erase(name.substr(kEjected.size()));
  }
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
    if (t.shape() != p.type.shape || is_float(t.dtype()) != is_float(p.type.dtype)) {
      throw FileError(
          "{}: tensor '{}' should be {} but is {}{}; does the adapter belong to this model?",
          file.source(), *found, p.type.str(), name_of(t.dtype()), t.shape().str());
    }
    store.set(p.name, t.cast(p.type.dtype).clone());
    unused.erase(*found);
  }
  // A table that is a target may stand in the file as the adapter was trained on it.
  const std::string_view layer = ".base_layer.weight";
  for (const Param& p : adapted.params()) {
    if (!p.adapter.empty() || !p.name.ends_with(".weight")) continue;
    const std::string module = p.name.substr(0, p.name.rfind('.'));
    const auto found = unused.find(std::string(kPrefix) + module + std::string(layer));
    if (found == unused.end() || file.tensor(*found).shape() != p.type.shape ||
        !is_float(file.tensor(*found).dtype()))
      continue;
    store.set(p.name, file.tensor(*found).cast(p.type.dtype).clone());
    unused.erase(found);
  }
  if (!unused.empty()) {
    throw FileError(
        "{}: {} tensors have no place in the adapted model, such as '{}'; does adapter_config.json "
        "name all modules?",
        file.source(), unused.size(), *unused.begin());
  }
}

void save_adapter(const std::string& folder, const Method& method, const Json& config,
                  const Graph& adapted, const ParamStore& store, const std::string& base_model,
                  const std::string& task_type) {
  make_folders(folder);
  std::map<std::string, Tensor> tensors;
  for (const Param& p : adapted.params()) {
    if (!p.trainable && p.adapter.empty()) continue;
    const std::string key = file_key(p, method);
    if (!key.empty()) tensors[key] = store.get(p.name);
  }
  for (auto& [name, tensor] : ejected(adapted, store)) tensors[name] = tensor;
  std::map<std::string, Json> sorted;
  for (const auto& [key, value] : config.items()) sorted[key] = value;
  sorted["peft_type"] = hugging_face_has(method, config) ? std::string(method.peft_type)
                                                         : "GRAFT_" + std::string(method.name);
  sorted["graft_method"] = method.name;
  sorted["base_model_name_or_path"] = base_model;
  sorted["inference_mode"] = true;
  sorted["task_type"] = task_type.empty() ? Json() : Json(task_type);
  if (method.peft_type == "LORA") sorted["fan_in_fan_out"] = false;
  Json out = Json::object();
  for (auto& [key, value] : sorted) out[key] = value;
  // Both are on the disk before either has its name: a full disk leaves an older adapter as it was.
  AtomicFile weights(folder + "/adapter_model.safetensors"), text(folder + "/adapter_config.json");
  write_safetensors(weights, tensors);
  text.write(json_text(out));
  weights.sync();
  text.sync();
  weights.commit();
  text.commit();
}

}  // namespace graft::peft
