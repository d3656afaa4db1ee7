// SentencePiece's map of characters: a double-array trie over UTF-8 whose values are places in a
// list of replacements, each ended by a zero byte.
#include <utf8proc.h>

#include <cstring>

#include "core/error.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

class Precompiled : public Normalizer {
 public:
  Precompiled(const std::string& map, const std::string& source) : source_(source) {
    uint32_t bytes = 0;
    if (map.size() >= 4) std::memcpy(&bytes, map.data(), 4);  // little-endian, as all of it
    if (map.size() < 4 || bytes % 4 != 0 || bytes < 4 || bytes > map.size() - 4) {
      throw FileError(
          "{}: the character map has {} bytes and says that {} of them are its trie; it is damaged",
          source, map.size(), bytes);
    }
    units_.resize(bytes / 4);
    std::memcpy(units_.data(), map.data() + 4, bytes);
    replacements_ = map.substr(4 + bytes);
    if (!is_utf8(replacements_)) {
      throw FileError("{}: the replacements of the character map are not UTF-8; it is damaged",
                      source);
    }
  }

  void run(Text& text) const override {
    std::vector<Change> changes;
    changes.reserve(text.size());
    bool modified = false;
    const std::string_view bytes = text.bytes;
    size_t made = 0;
    for (size_t begin = 0; begin < bytes.size();) {
      const size_t end = grapheme_end(bytes, begin);
      const std::string_view grapheme = bytes.substr(begin, end - begin);
      std::string_view with;
      // A short cluster is looked up as a whole first; then each of its characters.
      constexpr size_t kLongestCluster = 5;
      if (grapheme.size() <= kLongestCluster && find(grapheme, with)) {
        replace(grapheme, with, changes);
        modified = true;
        made += with.size();
        check_growth(text, made, source_);
      } else {
        for (size_t i = begin; i < end;) {
          const CodePoint c = code_point(bytes, i);
          const std::string_view part = bytes.substr(i, c.bytes);
          if (find(part, with)) {
            replace(part, with, changes);
            modified = true;
            made += with.size();
            check_growth(text, made, source_);
          } else {
            changes.push_back({c.code, 0});
          }
          i += c.bytes;
        }
      }
      begin = end;
    }
    if (modified) rewrite(text, changes);
  }

 private:
  static size_t grapheme_end(std::string_view s, size_t at) {
    CodePoint c = code_point(s, at);
    utf8proc_int32_t state = 0;
    for (at += c.bytes; at < s.size();) {
      const CodePoint next = code_point(s, at);
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.code),
                                           static_cast<utf8proc_int32_t>(next.code), &state))
        break;
      c = next;
      at += next.bytes;
    }
    return at;
  }

  // The replacement of the shortest key that `key` begins with.
  bool find(std::string_view key, std::string_view& with) const {
    size_t node = offset(units_[0]);
    for (const char ch : key) {
      const auto c = static_cast<unsigned char>(ch);
      if (c == 0) return false;
      node ^= c;
      if (node >= units_.size()) return false;
      const uint32_t unit = units_[node];
      if ((unit & 0x800000FFu) != c) return false;
      node ^= offset(unit);
      if (node >= units_.size()) return false;
      if ((unit >> 8 & 1) == 0) continue;
      const size_t value = units_[node] & 0x7FFFFFFFu;
      if (value >= replacements_.size()) return false;
      const std::string_view rest = std::string_view(replacements_).substr(value);
      with = rest.substr(0, rest.find('\0'));
      return is_utf8(with);  // the place may be inside a character
    }
    return false;
  }

  static size_t offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

  static void replace(std::string_view old, std::string_view with, std::vector<Change>& changes) {
    auto count = [](std::string_view s) {
      int32_t n = 0;
      for (size_t i = 0; i < s.size(); ++n) i += code_point(s, i).bytes;
      return n;
    };
    const int32_t more = count(with) - count(old);
    for (size_t i = 0; i < with.size();) {
      const CodePoint c = code_point(with, i);
      changes.push_back({c.code, 0});
      i += c.bytes;
    }
    for (int32_t k = 0; k < more; ++k)
      changes[changes.size() - 1 - static_cast<size_t>(k)].change = 1;
    // What is gone counts with the character before it, even one that came from elsewhere: so the
    // reference places what follows.
    if (more < 0 && !changes.empty()) changes.back().change += more;
  }

  std::vector<uint32_t> units_;
  std::string replacements_, source_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled(const std::string& map, const std::string& source) {
  return std::make_unique<Precompiled>(map, source);
}

}  // namespace graft
