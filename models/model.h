// Graphs of Hugging Face models: what is common to all families.
#pragma once

#include <string>

#include "autograd/builder.h"
#include "models/config.h"

namespace graft {

enum class Head : uint8_t {
  none,                // last_hidden, pooler (where the family has one)
  classification,      // logits [B, labels] of the sequence (or image) classification class
  tokens,              // logits [B, T, labels]
  question_answering,  // logits [B, T, 2], start_logits and end_logits [B, T]
  masked_lm,           // logits [B, T, V]
  causal_lm,           // logits [B, T, V]
  seq2seq_lm,          // logits [B, target length, V]
  mean_pooled,  // logits [B, labels]: one linear layer "classifier" on the mean of the visible last
                // hidden states
};

// The head of config.architecture. Throws UsageError for a class that is not known.
Head head_of(const ModelConfig& config);
// The head under which a classification task is trained: the class's own where it classifies
// sequences; a decoder's own kind; else mean_pooled.
Head task_head(const ModelConfig& config);

// Of a decoder's keys and values: state parameters cache.LAYER.key and cache.LAYER.value, f32
// [B, capacity, kv heads, head size]. A column is a place in the padded text.
struct CacheOptions {
  enum class Use : uint8_t {
    none,
    fill,    // the given tokens are columns 0 .. T - 1
    extend,  // one token per row: the column that the input cache_column (i64 scalar) names. It
             // sees the columns where the input cache_mask, i64 [B, capacity], is not 0; layers
             // with a window those of cache_window_mask. A decoder with an encoder reads what
             // `fill` kept of the encoder's output: cache.LAYER.cross_key and .cross_value.
  };
  Use use = Use::none;
  int64_t capacity = 0;  // columns
};

// What of a model with two stacks is built. Text is made from the encoder once, then from the
// decoder token by token.
enum class Part : uint8_t {
  whole,    // the encoder, and the decoder where the head stands on it
  encoder,  // down to encoder_last
  decoder,  // from the input encoder_last, f32 [B, T, C]
};

struct ModelOptions {
  int64_t batch = 1, length = 1;
  int64_t target_length = 0;  // of a decoder with an encoder; 0: length
  Part part = Part::whole;
  Head head = Head::none;
  int64_t labels = 0;          // of the head; 0: as many as the config names
  bool hidden_states = false;  // named outputs hidden/0 .. hidden/L
  // As in training: at the config's rates, drawn from the input rng. UsageError where all are 0.
  bool dropout = false;
  CacheOptions cache;
  bool last_logits = false;  // of the last token alone: [B, 1, V]
};

// Inputs, all i64 [B, T]: input_ids, attention_mask, position_ids, token_type_ids (where the family
// has them), decoder_input_ids [B, target length] and, for mean_pooled and a decoder's
// classification, pool_mask (what counts in the mean); with dropout rng, i64[2] = seed and step.
// Outputs: last_hidden, pooler, logits, embedding (mean_pooled), hidden/i as the options say; with
// two stacks encoder_last, encoder_hidden/i and decoder_hidden/i. All parameters are declared
// frozen; roles and block indices are marked. Throws UsageError for a head that the family does not
// have.
Graph build_model(const ModelConfig& config, const ModelOptions& options);

// The prefix of the body's parameters under that head: "bert.", ..., or "" for the bare body.
std::string body_prefix(const ModelConfig& config, Head head);

}  // namespace graft
