// Training of a byte-level BPE vocabulary from text (GPT-2's kind).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"

namespace graft {

struct BpeTrainingOptions {
  int64_t vocabulary_size = 32000;  // with special tokens and the 256 bytes
  int64_t least_count = 2;          // of a pair that is merged
  std::vector<std::string> special_tokens{"<|endoftext|>"};
  // The special token that encoding puts behind every text; empty: none.
  std::string closing;
};

// Counts the words of texts, then merges the most frequent pair again and again; of equally
// frequent ones that with the lower ids, as Hugging Face tokenizers does.
class BpeTrainer {
 public:
  // Throws UsageError where the vocabulary has no room for bytes and special tokens.
  explicit BpeTrainer(BpeTrainingOptions options = {});
  void add(std::string_view text);
  // A tokenizer.json.
  Json train() const;

 private:
  BpeTrainingOptions options_;
  std::unordered_map<std::string, int64_t> words_;
};

}  // namespace graft
