// Which modules and parameters a method touches: the rules of Hugging Face PEFT over what the graph
// says of itself.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph.h"
#include "core/json.h"

namespace graft::peft {

// A layer as its parameters show it: a product, lookup or norm that reads NAME.weight, or, where it
// is tied, the weight of an earlier one.
struct Module {
  enum class Kind : uint8_t { linear, embedding, norm };
  std::string name;  // "bert.encoder.layer.0.attention.self.query"
  Kind kind;
  std::string weight, bias;      // parameter names; either may be empty
  Shape shape;                   // of the weight as its readers see it: [out, in], [rows, width]
  bool transposed = false;       // the parameter itself is [in, out]
  bool tied = false;             // other modules read the same weight
  std::vector<int32_t> readers;  // the nodes
};

std::vector<Module> modules_of(const Graph& graph);
// The product that makes a value, behind what splits, shapes, scales and norms it; -1: none.
int32_t product_behind(const Graph& graph, Value v);
// The layers whose products make the values of a role (one may make queries, keys and values side
// by side).
std::vector<std::string> modules_of_role(const Graph& graph, Role role);
// The parameters that a task brings and adapter files always hold: those of the layers that
// transformers calls classifier or score.
bool is_task_head(std::string_view param);

// Whether modules_to_save names the module, or one that it or the parameter stands in: by the end
// of the name, on a dot boundary or not, as Hugging Face PEFT does.
bool inside_saved(std::string_view name, const std::vector<std::string>& saved);
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
// exclude_modules, modules_to_save, layers_to_transform and layers_pattern; where target_modules is
// null, the products that make the values of `fallback`. Throws UsageError when nothing matches,
// listing what there is.
std::vector<Module> select_targets(const Graph& graph, const Json& config,
                                   std::span<const Role> fallback);

}  // namespace graft::peft
