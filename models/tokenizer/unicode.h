// UTF-8 and the properties of characters that tokenizers ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace graft {

struct CodePoint {
  char32_t code;
  uint32_t bytes;  // how many bytes it takes; 0 at the end of a text
  bool valid;      // false: a malformed byte, which reads as U+FFFD
};

CodePoint decode_multibyte(std::string_view text, size_t at);

inline CodePoint code_point(std::string_view text, size_t at) {
  if (at >= text.size()) return {0, 0, false};
  const auto c = static_cast<unsigned char>(text[at]);
  return c < 0x80 ? CodePoint{c, 1, true} : decode_multibyte(text, at);
}
// The character that ends where `end` stands in valid UTF-8.
CodePoint code_point_before(std::string_view text, size_t end);

void append_utf8(std::string& out, char32_t code);

// Valid UTF-8 out of any bytes; each longest beginning of a character that breaks off becomes one
// U+FFFD, as the Unicode standard recommends and decoders of tokens expect.
std::string lossy_utf8(std::string_view bytes);
bool is_utf8(std::string_view bytes);

bool is_whitespace(char32_t c);       // White_Space
bool is_word(char32_t c);             // \w: letters, marks, decimal digits, connectors, joiners
bool is_numeric(char32_t c);          // N: decimal digits, letters and others that count
bool is_control(char32_t c);          // C of the assigned ones, but for tab and line ends
bool is_punctuation(char32_t c);      // P, and what ASCII has of symbols
bool is_mark(char32_t c);             // M
bool is_nonspacing_mark(char32_t c);  // Mn
bool is_chinese(char32_t c);          // the blocks of CJK ideographs
char32_t lowered(char32_t c);         // simple lower case

}  // namespace graft
