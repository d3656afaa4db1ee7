// Which modules and parameters a method touches: the rules of Hugging Face PEFT over what the graph
// says of itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph.h"
#include "core/json.h"

namespace graft::peft {

// A layer as its parameters show it: a product, lookup or norm that reads NAME.weight.
struct Module {
  enum class Kind : uint8_t { linear, embedding, norm };
  std::string name;  // "bert.encoder.layer.0.attention.self.query"
  Kind kind;
  std::string weight, bias;  // parameter names; bias may be empty
};

std::vector<Module> modules_of(const Graph& graph);

// Whether a target entry names the module: equal to it, or a suffix on a dot boundary.
bool suffix_matches(std::string_view module, std::string_view entry);
// The whole name against a regular expression (ECMAScript without back-references, which covers
// what such files use of Python's); throws UsageError.
bool regex_matches(std::string_view module, const std::string& pattern);
// The first key k of an ordered pattern dictionary for which (.*\.)?(k)$ matches from the start;
// null where none does.
const Json* pattern_value(const Json& patterns, std::string_view module);
// The block a module belongs to: the first number that follows two segments, or one after
// `pattern.`; -1: none.
int layer_index(std::string_view module, const Json& layers_pattern = nullptr);

// The float parameters of the base that a run reads, outside of modules_to_save: those of the
// modules that target_modules names, or all where it is null (tables only if include_embeddings).
std::vector<std::string> select_params(const Graph& graph, const Json& config);

// The modules named by a config's target_modules (list, regular expression or "all-linear"),
// exclude_modules, modules_to_save, layers_to_transform and layers_pattern. `fallback` is used
// where target_modules is null. Throws UsageError when nothing matches, listing what there is.
std::vector<Module> select_targets(const Graph& graph, const Json& config,
                                   const std::vector<std::string>& fallback);

}  // namespace graft::peft
