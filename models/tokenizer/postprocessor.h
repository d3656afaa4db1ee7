// The stage behind the model: special tokens around one or two texts, and offsets without the
// spaces that byte-level tokens begin with.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "models/tokenizer.h"
#include "models/tokenizer/vocabulary.h"

namespace graft {

struct TemplatePiece {
  int sequence;  // 0, 1; -1: a special token
  int64_t id, type;
};

struct PostProcessor {
  std::vector<TemplatePiece> single{{0, 0, 0}}, pair{{0, 0, 0}, {1, 0, 1}};
  bool trims_offsets = false;
  bool prefix_space = false;  // one space at the beginning may be none of the text's

  static int64_t specials(const std::vector<TemplatePiece>& pieces);
  void trim(Encoding& e) const;
  Encoding assemble(const std::vector<TemplatePiece>& pieces, Encoding&& a, const Encoding* b,
                    const Vocabulary& vocabulary) const;
};

// [CLS] A [SEP] and [CLS] A [SEP] B [SEP].
void set_bert_template(PostProcessor& p, int64_t cls, int64_t sep);
// <s> A </s> and <s> A </s></s> B </s>, all of type 0.
void set_roberta_template(PostProcessor& p, int64_t cls, int64_t sep);

// The field `post_processor` of a tokenizer.json. `source` names it in errors.
PostProcessor read_postprocessor(const Json& j, const std::string& source,
                                 const Vocabulary& vocabulary);

// Drops tokens so that at most `size` are left.
void truncate(Encoding& e, int64_t size, Side side);
// The same for two, which then have `room` together. Throws UsageError where the strategy cannot.
void truncate(Encoding& a, Encoding& b, int64_t room, const Truncation& truncation);

}  // namespace graft
