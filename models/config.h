// A model's config.json, reduced to what graphs are built from. One struct for all families; a
// family reads its own fields.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace graft {

struct Family;

struct ModelConfig {
  std::string folder;        // where it was read from; empty: nowhere
  std::string model_type;    // bert, llama, t5, ...
  std::string architecture;  // BertModel, LlamaForCausalLM, ...
  const Family* family = nullptr;

  int64_t hidden = 0, layers = 0, heads = 0, intermediate = 0, vocab = 0, max_positions = 0,
          token_types = 0;
  int64_t first_position = 0;           // row of the position table for the first token
  int64_t kv_heads = 0, head_size = 0;  // where a family has no such field: heads, hidden / heads
  std::string activation = "gelu";
  double norm_eps = 1e-12;
  bool tied = false;                // the head's weight is the token table
  std::vector<std::string> labels;  // class names of a classification head, if any

  // ---- tokens with a meaning; -1: none
  int64_t pad_id = -1, bos_id = -1, decoder_start_id = -1;
  std::vector<int64_t> eos_ids;

  // ---- decoders
  std::vector<double> rope_frequencies;             // [rotary dimensions / 2], radians per position
  double attention_scale = 0;                       // of q k^T
  bool scaled_by_layer = false;                     // divided by the layer's number, from 1
  double attention_softcap = 0, logit_softcap = 0;  // 0: none
  std::vector<int64_t> windows;  // per layer: positions that a query sees, itself included; 0: all

  // ---- encoder-decoders
  int64_t decoder_layers = 0;
  bool gated = false;  // down(act(gate(x)) * up(x))

  // ---- relative positions
  int64_t relative_buckets = 0;   // of distances, per direction or in all
  int64_t relative_distance = 0;  // from which on they share the last bucket
  bool content_on_position = false, position_on_content = false;  // kinds of scores
  bool table_positions = true;                                    // absolute ones, too

  // ---- images
  int64_t channels = 0, image_size = 0, patch_size = 0;

  // ---- dropout of training, 0: none
  struct Dropout {
    double embedding = 0;  // of what enters the first block
    double attention = 0;  // of attention's probabilities
    double hidden = 0;     // of what blocks add to their stream, and where else a family says so
    double pooler = 0, classifier = 0, tokens = 0, answers = 0;  // of what layers of heads read
  } dropout;

  Json raw;
  std::vector<std::string> unknown;  // fields of the file that no one reads

  // Fields that one family alone knows; their types were checked when it read them.
  bool flag(const char* key, bool fallback) const {
    return json_field<bool>(raw, key, model_type, fallback);
  }
  std::string text(const char* key, std::string fallback) const {
    return json_field<std::string>(raw, key, model_type, std::move(fallback));
  }
  int64_t window(int64_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<size_t>(layer)];
  }
};

// Of a model folder, or of a config.json alone. Throws FileError naming the file and the field that
// is missing or wrong, UsageError for a family that is not known.
ModelConfig load_config(const std::string& path);
// The same for text in memory; `file` names it in errors.
ModelConfig parse_config(std::string_view text, const std::string& file);

}  // namespace graft
