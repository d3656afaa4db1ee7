// Pictures for tests: PNG files without compression.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace graft::testing {

// rgb: rows from the top, three bytes a pixel; at most 65535 bytes with one more for each row.
inline std::string png_of(uint32_t width, uint32_t height, const std::string& rgb) {
  const auto big = [](uint32_t v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16),
                       static_cast<char>(v >> 8), static_cast<char>(v)};
  };
  const auto chunk = [&](const std::string& kind, const std::string& data) {
    uint32_t crc = ~0u;
    for (const char c : kind + data) {
      crc ^= static_cast<unsigned char>(c);
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
    }
    return big(static_cast<uint32_t>(data.size())) + kind + data + big(~crc);
  };
  std::string lines;
  for (uint32_t y = 0; y < height; ++y)
    lines += std::string(1, '\0') + rgb.substr(size_t{y} * width * 3, size_t{width} * 3);
  uint32_t a = 1, b = 0;
  for (const char c : lines) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  const auto n = static_cast<uint32_t>(lines.size());
  const std::array<char, 7> head = {0x78,
                                    0x01,
                                    0x01,
                                    static_cast<char>(n),
                                    static_cast<char>(n >> 8),
                                    static_cast<char>(~n),
                                    static_cast<char>(~n >> 8)};
  return "\x89PNG\r\n\x1a\n" +
         chunk("IHDR", big(width) + big(height) + std::string("\x08\x02\0\0\0", 5)) +
         chunk("IDAT", std::string(head.data(), head.size()) + lines + big(b << 16 | a)) +
         chunk("IEND", "");
}

}  // namespace graft::testing
