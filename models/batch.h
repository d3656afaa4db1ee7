// Rows of tokens as the inputs of a model's graph.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "models/config.h"
#include "models/tokenizer.h"

namespace graft {

// Position of every token as the family counts, for rows of ids and their mask, [batch, length].
std::vector<int64_t> position_ids(const ModelConfig& config, std::span<const int64_t> input_ids,
                                  std::span<const int64_t> attention_mask, int64_t batch,
                                  int64_t length);

// What the decoder of a model with two stacks reads to say `labels` [batch, length]: the start
// token, then each label but the last; padding for a label of -100.
std::vector<int64_t> shifted_right(const ModelConfig& config, std::span<const int64_t> labels,
                                   int64_t batch, int64_t length);

// Tokens that fit into one row.
int64_t longest_row(const ModelConfig& config);

// What a method puts before every text: rows of the input of any id, which are visible but not part
// of a mean; and positions that count as taken (keys and values that only attention sees).
struct InFront {
  int64_t virtual_tokens = 0, positions = 0;
};

// Those that fit beside it.
int64_t longest_row(const ModelConfig& config, const InFront& front);

// One row of a batch, without padding; types may be empty (all 0). `target` is what a decoder with
// an encoder says; empty: the row itself, as its classification class reads it.
struct TokenRow {
  std::span<const int64_t> ids, types, target = {};
};

// Writes the inputs of a model for a batch padded to `length` behind what stands in front. `input`
// gives the tensor of a name, null where the graph has no such input. Throws UsageError for a token
// that the model does not know, or a model of pictures.
void fill_inputs(const ModelConfig& config, std::span<const TokenRow> rows, int64_t length,
                 const InFront& front, const std::function<Tensor*(const std::string&)>& input,
                 Side padding = Side::right);

}  // namespace graft
