#include "peft/select.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <regex>
#include <set>

#include "autograd/op.h"
#include "core/error.h"

namespace graft::peft {
namespace {

std::vector<std::string> strings_of(const Json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return {};
  if (it->is_string()) return {it->get<std::string>()};
  return json_field<std::vector<std::string>>(config, key, "the method's configuration");
}

bool is_null(const Json& config, const char* key) {
  return !config.contains(key) || config.at(key).is_null();
}

// Either a regular expression (string) or a list of suffixes.
bool named_by(const Json& value, std::string_view module) {
  if (value.is_string()) return regex_matches(module, value.get<std::string>());
  return std::ranges::any_of(
      value, [&](const Json& e) { return suffix_matches(module, e.get<std::string>()); });
}

}  // namespace

std::vector<Module> modules_of(const Graph& graph) {
  std::map<Value, std::string> reparametrized;
  for (const Mark& m : graph.marks(Role::reparametrized)) reparametrized.emplace(m.value, m.scope);
  auto param_name = [&](Value v) -> std::string {
    if (!v.valid()) return {};
    if (const auto it = reparametrized.find(v); it != reparametrized.end()) return it->second;
    const Node& n = graph.node(v.node);
    return n.op->name == "param" ? n.attrs.as<NameAttrs>().name : std::string();
  };
  const std::string_view suffix = ".weight";
  std::vector<Module> modules;
  std::map<std::string, size_t> first;  // module that reads a weight
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& n = graph.nodes()[i];
    const bool linear = n.op->name == "linear", embedding = n.op->name == "embedding";
    const bool norm = n.op->name == "layer_norm" || n.op->name == "rms_norm";
    if ((!linear && !embedding && !norm) || n.inputs.size() < 2 || !n.inputs[1].valid()) continue;
    Module m;
    m.kind = linear      ? Module::Kind::linear
             : embedding ? Module::Kind::embedding
                         : Module::Kind::norm;
    const Node& made = graph.node(n.inputs[1].node);
    m.weight = param_name(n.inputs[1]);
    m.transposed = m.weight.empty() && made.op->name == "transpose";
    // A gain may be held as what is more than 1.
    if (m.transposed || (norm && made.op->name == "add_scalar"))
      m.weight = param_name(made.inputs[0]);
    const Param* p = m.weight.ends_with(suffix) ? graph.find_param(m.weight) : nullptr;
    if (p == nullptr || !p->adapter.empty()) continue;
    m.shape = graph.type(n.inputs[1]).shape;
    m.readers = {static_cast<int32_t>(i)};
    if (n.inputs.size() > 2) m.bias = param_name(n.inputs[2]);
    m.name = m.weight.substr(0, m.weight.size() - suffix.size());
    const auto [at, is_first] = first.try_emplace(m.weight, modules.size());
    if (!is_first) {
      Module& other = modules[at->second];
      if (other.kind == m.kind) {  // one layer, used twice
        other.readers.push_back(m.readers[0]);
        continue;
      }
      other.tied = m.tied = true;
      m.name = n.scope;
    }
    modules.push_back(std::move(m));
  }
  return modules;
}

int32_t product_behind(const Graph& graph, Value v) {
  int32_t at = v.node;
  while (graph.node(at).op->name != "linear") {
    const auto& inputs = graph.node(at).inputs;
    if (inputs.empty() || !inputs[0].valid()) return -1;
    at = inputs[0].node;
  }
  return at;
}

std::vector<std::string> modules_of_role(const Graph& graph, Role role) {
  std::map<int32_t, std::string> product;  // that a node is
  for (const Module& m : modules_of(graph)) {
    if (m.kind != Module::Kind::linear) continue;
    for (const int32_t reader : m.readers) product[reader] = m.name;
  }
  std::vector<std::string> names;
  for (const Mark& mark : graph.marks(role)) {
    const auto found = product.find(product_behind(graph, mark.value));
    if (found != product.end() && std::ranges::find(names, found->second) == names.end())
      names.push_back(found->second);
  }
  return names;
}

bool is_task_head(std::string_view param) {
  const std::string_view module = param.substr(0, param.find('.'));
  return module.ends_with("classifier") || module == "score";
}

bool inside_saved(std::string_view name, const std::vector<std::string>& saved) {
  for (size_t end = name.find('.');; end = name.find('.', end + 1)) {
    const std::string_view module = name.substr(0, end);
    const auto ends = [&](const std::string& entry) { return module.ends_with(entry); };
    if (std::ranges::any_of(saved, ends)) return true;
    if (end == std::string_view::npos) return false;
  }
}

bool suffix_matches(std::string_view module, std::string_view entry) {
  return module == entry || (module.size() > entry.size() && module.ends_with(entry) &&
                             module[module.size() - entry.size() - 1] == '.');
}

bool regex_matches(std::string_view module, const std::string& pattern) {
  // Patterns come from files. libstdc++'s usual matcher takes exponential time for the likes of
  // (a*)*b; this one does not, and knows no back-references. Compiling recurses with the length.
#ifdef __GLIBCXX__
  constexpr auto kSyntax = std::regex::ECMAScript | std::regex_constants::__polynomial;
#else
  constexpr auto kSyntax = std::regex::ECMAScript;
#endif
  constexpr size_t kLongest = 1000;
  if (pattern.size() > kLongest) {
    throw UsageError("a regular expression of {} characters is too long; at most {} are read",
                     pattern.size(), kLongest);
  }
  try {
    return std::regex_match(module.begin(), module.end(), std::regex(pattern, kSyntax));
  } catch (const std::regex_error& e) {
    throw UsageError("'{}' is not a regular expression: {}", pattern, e.what());
  }
}

const Json* pattern_value(const Json& patterns, std::string_view module) {
  if (!patterns.is_object()) return nullptr;
  for (const auto& [key, value] : patterns.items()) {
    if (regex_matches(module, "(.*\\.)?(" + key + ")")) return &patterns.at(key);
  }
  return nullptr;
}

int layer_index(std::string_view module, const Json& layers_pattern) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= module.size();) {
    const size_t dot = std::min(module.find('.', at), module.size());
    parts.emplace_back(module.substr(at, dot - at));
    at = dot + 1;
  }
  auto number = [&](size_t i) {
    const std::string& s = parts[i];
    return !s.empty() && s.size() < 6 &&
                   std::ranges::all_of(s, [](unsigned char ch) { return std::isdigit(ch); })
               ? std::stoi(s)
               : -1;
  };
  const Json patterns = layers_pattern.is_string() ? Json::array({layers_pattern}) : layers_pattern;
  if (patterns.is_array() && !patterns.empty()) {
    for (const Json& p : patterns) {
      for (size_t i = 1; i < parts.size(); ++i) {
        if (parts[i - 1] == p.get<std::string>() && number(i) >= 0) return number(i);
      }
    }
    return -1;
  }
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    if (number(i) >= 0) return number(i);
  }
  return -1;
}

std::vector<std::string> select_params(const Graph& graph, const Json& config) {
  std::vector<std::string> names;
  if (!is_null(config, "target_modules")) {
    for (const Module& m : select_targets(graph, config, {})) {
      if (std::ranges::find(names, m.weight) != names.end()) continue;
      names.push_back(m.weight);
      if (!m.bias.empty()) names.push_back(m.bias);
    }
    return names;
  }
  std::set<std::string> tables;
  for (const Module& m : modules_of(graph)) {
    if (m.kind == Module::Kind::embedding) tables.insert(m.weight);
  }
  const std::vector<std::string> saved = strings_of(config, "modules_to_save");
  for (const Param& p : graph.params()) {
    const bool base = p.kind == Param::Kind::weight && p.adapter.empty() && is_float(p.type.dtype);
    if (!base || !graph.param_value(p.name).valid()) continue;
    if (inside_saved(p.name.substr(0, p.name.rfind('.')), saved)) continue;
    if (!tables.contains(p.name) || config.at("include_embeddings").get<bool>())
      names.push_back(p.name);
  }
  if (names.empty()) throw UsageError("the model has no parameters to choose from");
  return names;
}

std::vector<Module> select_targets(const Graph& graph, const Json& config,
                                   std::span<const Role> fallback) {
  Json target = config.contains("target_modules") ? config.at("target_modules") : Json();
  if (target.is_null()) {
    target = Json::array();
    for (const Role role : fallback) {
      for (const std::string& name : modules_of_role(graph, role)) target.push_back(name);
    }
  }
  const std::vector<std::string> saved = strings_of(config, "modules_to_save");
  const Json layers =
      config.contains("layers_to_transform") ? config.at("layers_to_transform") : Json();
  const Json pattern = config.contains("layers_pattern") ? config.at("layers_pattern") : Json();
  std::string lowered = target.is_string() ? target.get<std::string>() : "";
  std::ranges::transform(lowered, lowered.begin(),
                         [](unsigned char ch) { return std::tolower(ch); });

  // What makes the model's own result is no target of all-linear.
  const std::vector<std::string> heads = modules_of_role(graph, Role::head);
  std::vector<Module> chosen;
  std::string known;
  for (const Module& m : modules_of(graph)) {
    if (m.kind == Module::Kind::norm && lowered == "all-linear") continue;
    known += "\n  " + m.name;
    if (!is_null(config, "exclude_modules") && named_by(config.at("exclude_modules"), m.name))
      continue;
    if (inside_saved(m.name, saved)) continue;
    if (lowered == "all-linear") {
      if (m.kind == Module::Kind::linear && std::ranges::find(heads, m.name) == heads.end())
        chosen.push_back(m);
      continue;
    }
    if (!named_by(target, m.name)) continue;
    if (target.is_array() && !layers.is_null() &&
        std::ranges::find(target, Json(m.name)) == target.end()) {
      const int index = layer_index(m.name, pattern);
      const bool listed = layers.is_array() ? std::ranges::find(layers, Json(index)) != layers.end()
                                            : layers == index;
      if (index < 0 || !listed) continue;
    }
    chosen.push_back(m);
  }
  if (chosen.empty())
    throw UsageError("target_modules {} matches no module; the model has:{}", target.dump(), known);
  return chosen;
}

}  // namespace graft::peft
