// The second stage: a text is split into words, of which each is cut into tokens for itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "models/tokenizer/regex.h"
#include "models/tokenizer/text.h"

namespace graft {

struct Words {
  Text text;
  std::vector<Range> words;  // in order, none of them empty; what lies between is dropped
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void run(Words& w) const = 0;
};

std::unique_ptr<PreTokenizer> make_bert_pretokenizer();
std::unique_ptr<PreTokenizer> make_byte_level(bool add_prefix_space, bool use_regex = true);

// What becomes of the matches of a pattern: pieces of their own, dropped, joined to what stands
// before or behind them, or runs of them as pieces.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// The field `pre_tokenizer` of a tokenizer.json. `source` names it in errors.
std::unique_ptr<PreTokenizer> read_pretokenizer(const Json& j, const std::string& source);

}  // namespace graft
