// The alphabet of byte-level models: each byte as a printable character (GPT-2).
#pragma once

#include <string>
#include <string_view>

namespace graft {

// UTF-8 of the character that stands for a byte.
std::string_view byte_level_character(unsigned char byte);
// The byte that a character stands for; -1: none.
int byte_level_byte(char32_t c);

}  // namespace graft
