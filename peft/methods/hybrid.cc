// Hybrids, made of other methods: MAM (methods.md 7.3, 2110.04366) and UniPELT (7.4, 2110.07577).
#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

// A part's own configuration: its defaults overridden by what the hybrid says under the same names.
Json part(Json defaults, const Json& config) {
  for (auto& [key, value] : defaults.items()) {
    if (config.contains(key)) value = config.at(key);
  }
  return defaults;
}

void mam(Rewrite& r, const Json& config) {
  prefix_tuning(r, part(prefix_mlp_defaults(), config));
  parallel(r, part(parallel_defaults(), config));
}

// Each part behind its own gate; the gate of LoRA stands in place of alpha / r.
void unipelt(Rewrite& r, const Json& config) {
  prefix_tuning(r, part(prefix_mlp_defaults(), config));
  lora(r, part(lora_defaults(), config));
  pfeiffer(r, part(pfeiffer_defaults(), config));
}

Json mam_defaults() {
  Json d = prefix_mlp_defaults();
  d.update(parallel_defaults());
  d.erase("use_gating");
  d["num_virtual_tokens"] = 30;
  d["encoder_hidden_size"] = 800;
  return d;
}

Json unipelt_defaults() {
  Json d = target_defaults();
  d.update(prefix_mlp_defaults());
  d.update(pfeiffer_defaults());
  d.update(
      Json{{"r", 8}, {"lora_dropout", 0.0}, {"encoder_hidden_size", 512}, {"use_gating", true}});
  return d;
}

const Method kMethods[] = {
    {"mam", "hybrid", "freeze, add", "2110.04366", "", 1e-3, mam_defaults, mam},
    {"unipelt", "hybrid", "freeze, add", "2110.07577", "", 2e-3, unipelt_defaults, unipelt},
};

}  // namespace

std::span<const Method> hybrid_methods() { return kMethods; }

}  // namespace graft::peft
