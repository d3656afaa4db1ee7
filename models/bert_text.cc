#include "models/bert_text.h"

#include <utf8proc.h>

namespace graft {
namespace {

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_whitespace(char32_t c) {
  switch (c) {
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000:
      return true;
    default:
      return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x2000 && c <= 0x200A);
  }
}

bool is_control(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO ||
         k == UTF8PROC_CATEGORY_CS;
}

bool is_punctuation(char32_t c) {
  if ((c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
      (c >= 123 && c <= 126))
    return true;
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

}  // namespace

std::vector<char32_t> decode_utf8(std::string_view text) {
  std::vector<char32_t> out;
  out.reserve(text.size());
  const auto* p = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (size_t i = 0; i < text.size();) {
    utf8proc_int32_t c = -1;
    const auto n = utf8proc_iterate(p + i, static_cast<utf8proc_ssize_t>(text.size() - i), &c);
    out.push_back(n > 0 ? static_cast<char32_t>(c) : U'\uFFFD');
    i += n > 0 ? static_cast<size_t>(n) : 1;
  }
  return out;
}

void append_utf8(std::string& out, char32_t code) {
  utf8proc_uint8_t bytes[4];
  const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

Characters normalize_bert(const std::vector<char32_t>& text, int64_t first,
                          const BertTextOptions& o) {
  Characters out;
  out.reserve(text.size());
  auto lowered = [&](char32_t c, int64_t at) {
    if (o.lowercase && c == 0x130) {  // the one capital whose lower case is two characters
      out.push_back({'i', at});
      out.push_back({0x307, at});
    } else {
      out.push_back({o.lowercase
                         ? static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)))
                         : c,
                     at});
    }
  };
  for (size_t i = 0; i < text.size(); ++i) {
    char32_t c = text[i];
    const int64_t at = first + static_cast<int64_t>(i);
    if (o.clean_text) {
      if (c == 0 || c == 0xFFFD || is_control(c)) continue;
      if (is_whitespace(c)) c = ' ';
    }
    const bool spaced = o.chinese_chars && is_chinese(c);
    if (spaced) out.push_back({' ', at});
    if (o.strip_accents && c >= 0x80) {
      utf8proc_int32_t parts[32];
      int boundary = 0;
      const auto n =
          utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32,
                                  static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE), &boundary);
      if (n <= 0 || n > 32) {
        lowered(c, at);
      } else {
        for (utf8proc_ssize_t k = 0; k < n; ++k) {
          const auto part = static_cast<char32_t>(parts[k]);
          if (category(part) != UTF8PROC_CATEGORY_MN) lowered(part, at);
        }
      }
    } else {
      lowered(c, at);
    }
    if (spaced) out.push_back({' ', at});
  }
  return out;
}

std::vector<Characters> split_bert(const Characters& text) {
  std::vector<Characters> words;
  bool open = false;
  for (const Character& c : text) {
    if (is_whitespace(c.code)) {
      open = false;
    } else if (is_punctuation(c.code)) {
      words.push_back({c});
      open = false;
    } else {
      if (!open) words.emplace_back();
      words.back().push_back(c);
      open = true;
    }
  }
  return words;
}

}  // namespace graft
