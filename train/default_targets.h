// Where Hugging Face PEFT puts a method on a kind of model when nobody says so.
#pragma once

#include "models/config.h"
#include "peft/method.h"

namespace graft {

// Fills target_modules (and feedforward_modules) where they are not set and the reference's choice
// is another than the roles that the method asks for.
void set_default_targets(const ModelConfig& model, const peft::Method& method, Json& config);

}  // namespace graft
