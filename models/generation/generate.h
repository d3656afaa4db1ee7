// Text generation: greedy, sampled, or by beam search.
#pragma once

#include <functional>
#include <vector>

#include "models/generation/sampler.h"
#include "models/generation/session.h"

namespace graft {

struct GenerationOptions {
  int64_t max_new_tokens = 64;
  SamplingOptions sampling;
  std::vector<int64_t> eos_ids;  // a row ends with one of these
  // Beam search where above 1: the best of `beams` continuations by the sum of log probabilities
  // over length^length_penalty, length counting the new tokens.
  int64_t beams = 1;
  double length_penalty = 1;
};

// Is told every new token of a row as it is chosen (not under beam search); false ends the row.
using TokenListener = std::function<bool(int64_t row, int64_t token)>;

// New tokens of each prompt, the end token included. Throws UsageError for options that make no
// sense.
std::vector<std::vector<int64_t>> generate(DecodingSession& session,
                                           const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerationOptions& options,
                                           const TokenListener& listener = nullptr);

}  // namespace graft
