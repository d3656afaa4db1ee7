// BERT (1810.04805), RoBERTa (1907.11692) and DistilBERT (1910.01108): one post-norm encoder under
// three sets of names.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "autograd/builder.h"
#include "core/tensor.h"
#include "models/config.h"

namespace graft {

enum class Head : uint8_t {
  none,            // last_hidden, pooler (where the family has one)
  classification,  // logits [B, labels] of the Hugging Face sequence classification class
  tokens,          // logits [B, T, labels]
  masked_lm,       // logits [B, T, V]
  mean_pooled,  // logits [B, labels]: one linear layer "classifier" on the mean of the visible last
                // hidden states
};

// The head of config.architecture. Throws UsageError for a class that is not known.
Head head_of(const ModelConfig& config);
// The head under which a task is trained: the class's own where it classifies sequences, else
// mean_pooled.
Head task_head(const ModelConfig& config);

struct EncoderOptions {
  int64_t batch = 1, length = 1;
  Head head = Head::none;
  int64_t labels = 0;          // of the head; 0: as many as the config names
  bool hidden_states = false;  // named outputs hidden/0 .. hidden/L
  std::string prefix;  // of parameter names; "bert" etc. where a head class wraps the encoder
};

// Inputs, all i64 [B, T]: input_ids, attention_mask, position_ids, token_type_ids (bert and
// roberta) and, for mean_pooled, pool_mask (what counts in the mean). Outputs: last_hidden, pooler,
// logits, embedding (mean_pooled), hidden/i as the options say. All parameters are declared frozen;
// roles and block indices are marked.
Graph build_encoder(const ModelConfig& config, const EncoderOptions& options);

// The prefix of the encoder's parameters under that head: "bert.", ..., or "" for the bare encoder.
std::string encoder_prefix(const ModelConfig& config, Head head);

// Position of every token as the family counts: 0, 1, ... or, for roberta, pad_id + 1 + number of
// earlier tokens that are not padding.
std::vector<int64_t> position_ids(const ModelConfig& config, std::span<const int64_t> input_ids,
                                  int64_t batch, int64_t length);

// Tokens that fit into one row.
int64_t longest_row(const ModelConfig& config);

// One row of a batch, without padding; types may be empty (all 0).
struct EncoderRow {
  std::span<const int64_t> ids, types;
};

// Writes the inputs of an encoder for a batch padded to `length` behind `virtual_tokens` rows of
// any id, which are visible but not part of the mean. `input` gives the tensor of a name, null
// where the graph has no such input. Throws UsageError for a token that the model does not know.
void fill_encoder_inputs(const ModelConfig& config, std::span<const EncoderRow> rows,
                         int64_t length, int64_t virtual_tokens,
                         const std::function<Tensor*(const std::string&)>& input);

}  // namespace graft
