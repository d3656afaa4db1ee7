// One function per method file; the table of methods (peft/method.cc) lists them.
#pragma once

#include "peft/method.h"

namespace graft::peft {

std::span<const Method> selective_methods();   // full, head, top_layers, bitfit, ln_tuning
std::span<const Method> lora_methods();        // lora with its variants
std::span<const Method> ia3_methods();
std::span<const Method> bottleneck_methods();  // houlsby, pfeiffer, parallel, scaled_parallel, compacter
std::span<const Method> prompt_methods();      // prompt_tuning, prefix_tuning

// What every method that names modules may be told.
Json target_defaults();

}  // namespace graft::peft
