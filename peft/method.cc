#include "peft/method.h"

#include <algorithm>
#include <utility>

#include "autograd/ops.h"
#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

const std::vector<Method>& table() {
  static const std::vector<Method> methods = [] {
    std::vector<Method> all;
    for (auto family : {selective_methods(), lora_methods(), ia3_methods(), bottleneck_methods(),
                        prompt_methods(), sparse_methods(), intrinsic_methods(), adalora_methods(),
                        hybrid_methods(), side_methods()}) {
      all.insert(all.end(), family.begin(), family.end());
    }
    return all;
  }();
  return methods;
}

// For messages: short, and whatever bytes the text has.
std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

bool same_kind(const Json& value, const Json& fallback) {
  if (fallback.is_null() || value.is_null())
    return true;  // null: several kinds are allowed, or not set
  if (fallback.is_number_float()) return value.is_number() || value.is_string();
  if (fallback.is_number_integer()) return value.is_number_integer();
  return value.type() == fallback.type();
}

// Fields that say where a method acts are null by default, so their kind is checked by name.
void check_selection(const Method& method, const std::string& key, const Json& value) {
  const bool names = key == "target_modules" || key == "exclude_modules" ||
                     key == "modules_to_save" || key == "layers_pattern";
  const bool layers = key == "layers_to_transform";
  if ((!names && !layers) || value.is_null()) return;
  auto fits = [&](const Json& v) { return names ? v.is_string() : v.is_number_integer(); };
  if (fits(value) || (value.is_array() && std::ranges::all_of(value, fits))) return;
  throw UsageError("method '{}': hyperparameter '{}' should be {} or a list of them but is {}",
                   method.name, key, names ? "a string" : "an integer", shown(value));
}

}  // namespace

std::span<const Method> all_methods() { return table(); }

const Method& find_method(std::string_view name) {
  std::string known;
  for (const Method& m : table()) {
    if (m.name == name) return m;
    known += (known.empty() ? "" : ", ") + std::string(m.name);
  }
  throw UsageError("there is no method '{}'; known: {}", name, known);
}

const Method* method_of_peft_type(std::string_view type) {
  const auto it = std::ranges::find(table(), type, &Method::peft_type);
  return it == table().end() || type.empty() ? nullptr : &*it;
}

Json target_defaults() {
  return {{"target_modules", nullptr},
          {"exclude_modules", nullptr},
          {"layers_to_transform", nullptr},
          {"layers_pattern", nullptr}};
}

Json complete_config(const Method& method, const Json& given) {
  Json config = method.defaults();
  config["modules_to_save"] = nullptr;
  for (const auto& [key, value] : given.items()) {
    const auto it = config.find(key);
    if (it == config.end()) {
      std::string known;
      for (const auto& [k, v] : config.items()) known += (known.empty() ? "" : ", ") + k;
      throw UsageError("method '{}' has no hyperparameter '{}'; it has: {}", method.name, key,
                       known);
    }
    if (!same_kind(value, *it)) {
      throw UsageError("method '{}': hyperparameter '{}' should be like {} but is {}", method.name,
                       key, shown(*it), shown(value));
    }
    check_selection(method, key, value);
    // Null where the method has a default means what it does in Hugging Face's files: not set.
    if (!value.is_null()) *it = value;
  }
  return config;
}

Adapted apply(const Graph& base, const Method& method, const Json& given,
              const ApplyOptions& options) {
  Adapted result;
  result.config = complete_config(method, given);
  Rewrite rewrite(base, options);
  rewrite.freeze_all();
  try {
    method.apply(rewrite, result.config);
  } catch (const Json::exception& e) {  // inside patterns, which complete_config takes as they are
    throw UsageError("method '{}': a hyperparameter has the wrong type: {}", method.name, e.what());
  } catch (const UsageError& e) {
    const std::string on =
        options.model.empty() ? "" : fmt::format(" on a {} model", options.model);
    throw UsageError("{}{}: {}", method.name, on, e.what());
  }
  const Json& saved = result.config.at("modules_to_save");
  if (saved.is_array()) {
    const auto names = saved.get<std::vector<std::string>>();
    rewrite.unfreeze([&](const Param& p) { return inside_saved(p.name, names); });
    for (const Module& m : modules_of(base)) {
      if (m.tied && inside_saved(m.name, names)) rewrite.untie(m);
    }
  }
  result.graph = rewrite.builder().finish(&result.delta);
  result.initializers = rewrite.take_initializers();
  result.replaced = rewrite.take_replaced();
  result.fisher = rewrite.take_fisher();
  result.after_step = rewrite.take_after_step();
  return result;
}

Value add_penalties(Builder& b, Value loss) {
  const auto outputs = b.graph().outputs();
  for (const auto& [name, v] : outputs) {
    if (name.starts_with("penalty/")) loss = ops::add(b, loss, v);
  }
  return loss;
}

void finish_step(Builder& b, const Adapted& adapted, const std::map<std::string, Value>& gradients,
                 const std::map<std::string, Value>& updated) {
  const Phase phase = std::exchange(b.phase, Phase::update);
  for (const AfterStep& f : adapted.after_step) f(b, gradients, updated);
  b.phase = phase;
}

void initialize(const Adapted& adapted, ParamStore& store, uint64_t seed) {
  store.initialize(adapted.graph, seed);
  for (const Initializer& f : adapted.initializers) f(store);
}

int64_t virtual_tokens(const Method& method, const Json& config) {
  return method.virtual_tokens == nullptr ? 0 : method.virtual_tokens(config);
}

int64_t position_shift(const Method& method, const Json& config) {
  return method.position_shift == nullptr ? 0 : method.position_shift(config);
}

int64_t trainable_count(const Graph& graph, bool with_saved_modules) {
  int64_t n = 0;
  for (const Param& p : graph.params()) {
    if (p.trainable && (with_saved_modules || !is_task_head(p.name))) n += p.type.shape.elements();
  }
  return n;
}

}  // namespace graft::peft
