// Methods that only choose what trains: full fine-tuning, the head alone, the top blocks
// (methods.md 4.4), BitFit (4.1, 2106.10199) and layer-norm tuning (4.2, 2211.08682).
#include <algorithm>
#include <set>

#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

void full(Rewrite& r, const Json&) {
  r.unfreeze([](const Param&) { return true; });
}

void head(Rewrite&, const Json&) {}

void top_layers(Rewrite& r, const Json& config) {
  int layers = 0;
  for (const Param& p : r.base().params()) layers = std::max(layers, layer_index(p.name) + 1);
  const auto n = config.at("n").get<int64_t>();
  if (n < 1 || n > layers)
    throw UsageError("n should be between 1 and {} (the model's blocks) but is {}", layers, n);
  r.unfreeze([&](const Param& p) { return layer_index(p.name) >= layers - n; });
}

// By use, not by name: whatever is added to the result of a product or a norm.
void bitfit(Rewrite& r, const Json&) {
  std::set<std::string> biases;
  for (const Module& m : modules_of(r.base())) {
    if (!m.bias.empty()) biases.insert(m.bias);
  }
  if (biases.empty()) throw UsageError("the model has no biases to train");
  r.unfreeze([&](const Param& p) { return biases.contains(p.name); });
}

void ln_tuning(Rewrite& r, const Json& config) {
  std::set<std::string> params;
  const Json& target = config.at("target_modules");
  for (const Module& m : modules_of(r.base())) {
    const bool named = target.is_null() ||
                       (target.is_string() ? regex_matches(m.name, target.get<std::string>())
                                           : std::ranges::any_of(target, [&](const Json& e) {
                                               return suffix_matches(m.name, e.get<std::string>());
                                             }));
    if (m.kind == Module::Kind::norm && named) params.insert({m.weight, m.bias});
  }
  if (params.empty()) throw UsageError("no normalization layer is named by {}", target.dump());
  r.unfreeze([&](const Param& p) { return params.contains(p.name); });
}

Json no_defaults() { return Json::object(); }
Json top_defaults() { return {{"n", 2}}; }

const Method kMethods[] = {
    {"full", "baseline", "none", "all parameters", "", 2e-4, no_defaults, full},
    {"head", "baseline", "freeze", "linear probing", "", 1e-2, no_defaults, head},
    {"top_layers", "selective", "freeze", "Donahue et al. 2014", "", 2e-4, top_defaults,
     top_layers},
    {"bitfit", "selective", "freeze", "2106.10199", "", 5e-3, no_defaults, bitfit},
    {"ln_tuning", "selective", "freeze", "2211.08682", "LN_TUNING", 5e-3, target_defaults,
     ln_tuning},
};

}  // namespace

std::span<const Method> selective_methods() { return kMethods; }

}  // namespace graft::peft
