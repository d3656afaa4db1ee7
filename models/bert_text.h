// Text as BERT sees it: cleaned, lower-cased, without accents, split into words, every character
// with its place in the source.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct Character {
  char32_t code;
  int64_t at;  // index of the source code point it came from
};
using Characters = std::vector<Character>;

struct BertTextOptions {
  bool clean_text = true, chinese_chars = true, lowercase = true, strip_accents = true;
};

// Code points of UTF-8; each malformed byte becomes U+FFFD.
std::vector<char32_t> decode_utf8(std::string_view text);
void append_utf8(std::string& out, char32_t code);

Characters normalize_bert(const std::vector<char32_t>& text, int64_t first,
                          const BertTextOptions& options);
// Words between white space; every punctuation character is a word of its own.
std::vector<Characters> split_bert(const Characters& text);

}  // namespace graft
