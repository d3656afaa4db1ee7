// The two patterns that nearly all byte-level models split by, written out by hand: they find just
// what the regular expressions find, tens of times faster.
#pragma once

#include <memory>
#include <string>

#include "models/tokenizer/regex.h"

namespace graft {

extern const char* const kGpt2Pattern;
extern const char* const kLlama3Pattern;

std::unique_ptr<Pattern> gpt2_scanner();
// Runs of at most `digits` digits are cut; Llama 3 has 3, Qwen 2 the same pattern with 1.
std::unique_ptr<Pattern> llama3_scanner(int digits = 3);
// A scanner where the expression is one of those, and otherwise null.
std::unique_ptr<Pattern> scanner_of(const std::string& expression);

}  // namespace graft
