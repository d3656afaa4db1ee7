#include "models/tokenizer/byte_level.h"

#include <array>

#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

// Bytes that print in Latin-1 stand for themselves; the others follow from U+0100 on.
struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, 0x144> bytes;

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool prints = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = prints ? static_cast<char32_t>(b) : next++;
      append_utf8(characters[static_cast<size_t>(b)], c);
      bytes[c] = b;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet a;
  return a;
}

}  // namespace

std::string_view byte_level_character(unsigned char byte) { return alphabet().characters[byte]; }

int byte_level_byte(char32_t c) { return c < alphabet().bytes.size() ? alphabet().bytes[c] : -1; }

}  // namespace graft
