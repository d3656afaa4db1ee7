// A model's config.json, reduced to what graphs are built from. One struct for all families; a
// family reads its own fields.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace graft {

struct ModelConfig {
  std::string folder;        // where it was read from; empty: nowhere
  std::string model_type;    // bert, roberta, distilbert
  std::string architecture;  // BertModel, BertForSequenceClassification, ...
  int64_t hidden = 0, layers = 0, heads = 0, intermediate = 0, vocab = 0, max_positions = 0,
          token_types = 0;
  int64_t pad_id = 0;
  std::string activation = "gelu";
  double norm_eps = 1e-12;
  std::vector<std::string> labels;  // class names of a classification head, if any
  Json raw;
};

// Of a model folder, or of a config.json alone. Throws FileError naming the file and the field that
// is missing or wrong, UsageError for a family that is not known.
ModelConfig load_config(const std::string& path);
// The same for text in memory; `file` names it in errors.
ModelConfig parse_config(std::string_view text, const std::string& file);

}  // namespace graft
