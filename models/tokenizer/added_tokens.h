// Tokens that are found in a text before anything else happens to it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/text.h"
#include "models/tokenizer/trie.h"

namespace graft {

struct AddedToken {
  std::string content;
  int64_t id = 0;
  bool special = false;     // decoding may leave it out
  bool normalized = false;  // found in the normalized text, as its normalized self
  bool left_strip = false, right_strip = false;  // takes the white space beside it along
  bool single_word = false;                      // not inside a word
};

class AddedTokens {
 public:
  struct Part {
    Range range;
    const AddedToken* token;  // null: plain text
  };

  AddedTokens() = default;
  // Looks for `contents`, which may be other than tokens' own. Tokens must outlive it.
  AddedTokens(const std::vector<const AddedToken*>& tokens,
              const std::vector<std::string>& contents);

  bool empty() const { return tokens_.empty(); }
  // Appends parts that cover the text. At one place the longest token counts.
  void split(std::string_view text, std::vector<Part>& out) const;

 private:
  std::vector<const AddedToken*> tokens_;
  Trie trie_;
};

}  // namespace graft
