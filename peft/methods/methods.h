// One function per method file; the table of methods (peft/method.cc) lists them.
#pragma once

#include "peft/method.h"

namespace graft::peft {

std::span<const Method> selective_methods();  // full, head, top_layers, bitfit, ln_tuning
std::span<const Method> lora_methods();       // lora with its variants
std::span<const Method> ia3_methods();
std::span<const Method>
bottleneck_methods();  // houlsby, pfeiffer, parallel, scaled_parallel, compacter
std::span<const Method> prompt_methods();     // prompt_tuning, prefix_tuning
std::span<const Method> sparse_methods();     // fish_mask, diff_pruning
std::span<const Method> intrinsic_methods();  // intrinsic (DID, SAID)
std::span<const Method> adalora_methods();
std::span<const Method> hybrid_methods();  // mam, unipelt
std::span<const Method> side_methods();    // lst

// Parts that hybrids put together, each with its own configuration.
void lora(Rewrite& r, const Json& config);
void prefix_tuning(Rewrite& r, const Json& config);
void pfeiffer(Rewrite& r, const Json& config);
void parallel(Rewrite& r, const Json& config);
Json lora_defaults();
Json prefix_mlp_defaults();
Json pfeiffer_defaults();
Json parallel_defaults();

// mean over time of sigmoid(x w^T + b), one number per row of the batch: [B, 1, 1] for x [B, T, d]
// (methods.md 7.4). Parameters NAME.weight [1, d] and NAME.bias [1].
Value gate(Rewrite& r, Builder& b, Value x, const std::string& name);

// What every method that names modules may be told.
Json target_defaults();

}  // namespace graft::peft
