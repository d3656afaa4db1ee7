// The first stage: texts before they are split, such as lower-cased or in a Unicode normal form.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "models/tokenizer/text.h"

namespace graft {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void run(Text& text) const = 0;
};

struct BertNormalizerOptions {
  bool clean_text = true, chinese_chars = true, lowercase = true, strip_accents = true;
};
std::unique_ptr<Normalizer> make_bert_normalizer(const BertNormalizerOptions& options);

// The map of characters of a SentencePiece model, as it stands there (not in base 64).
std::unique_ptr<Normalizer> make_precompiled(const std::string& map, const std::string& source);

// What SentencePiece does to a text before its model.
struct SentencePieceNormalizerOptions {
  std::string map;  // empty: characters stay
  bool dummy_prefix = true, remove_extra_spaces = true;
  std::vector<std::string> user_defined;  // pieces that stay as they are
};
std::unique_ptr<Normalizer> make_sentencepiece_normalizer(SentencePieceNormalizerOptions options,
                                                          const std::string& source);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
std::unique_ptr<Normalizer> make_normal_form(NormalForm form);

// The field `normalizer` of a tokenizer.json; null: none. `source` names it in errors.
std::unique_ptr<Normalizer> read_normalizer(const Json& j, const std::string& source);

}  // namespace graft
