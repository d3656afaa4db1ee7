// SentencePiece's map of characters: a double-array trie over UTF-8 whose values are places in a
// list of replacements, each ended by a zero byte.
#include <utf8proc.h>

#include <cstring>
#include <optional>

#include "core/error.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/trie.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

class CharacterMap {
 public:
  CharacterMap(const std::string& map, const std::string& source) {
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

  // The key that a text begins with, the shortest or the longest, and what it becomes.
  struct Hit {
    size_t bytes = 0;  // 0: there is none
    std::string_view with;
  };
  Hit find(std::string_view text, bool longest) const {
    Hit hit;
    size_t node = offset(units_[0]);
    for (size_t i = 0; i < text.size(); ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      node ^= c;
      if (c == 0 || node >= units_.size()) break;
      const uint32_t unit = units_[node];
      if ((unit & 0x800000FFu) != c) break;
      node ^= offset(unit);
      if (node >= units_.size()) break;
      if ((unit >> 8 & 1) == 0) continue;
      const size_t value = units_[node] & 0x7FFFFFFFu;
      if (value >= replacements_.size()) break;
      const std::string_view rest = std::string_view(replacements_).substr(value);
      const std::string_view with = rest.substr(0, rest.find('\0'));
      if (!is_utf8(with)) break;  // the place may be inside a character
      hit = {i + 1, with};
      if (!longest) break;
    }
    return hit;
  }

 private:
  static size_t offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

  std::vector<uint32_t> units_;
  std::string replacements_;
};

size_t grapheme_end(std::string_view s, size_t at) {
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

// As Hugging Face tokenizers applies the map: to clusters of characters.
class Precompiled : public Normalizer {
 public:
  Precompiled(const std::string& map, const std::string& source)
      : map_(map, source), source_(source) {}

  void run(Text& text) const override {
    std::vector<Change> changes;
    changes.reserve(text.size());
    bool modified = false;
    const std::string_view bytes = text.bytes;
    size_t made = 0;
    const auto replaced = [&](std::string_view part) {
      const CharacterMap::Hit hit = map_.find(part, false);
      if (hit.bytes == 0) return false;
      replace(part, hit.with, changes);
      modified = true;
      made += hit.with.size();
      check_growth(text, made, source_);
      return true;
    };
    for (size_t begin = 0; begin < bytes.size();) {
      const size_t end = grapheme_end(bytes, begin);
      // A short cluster is looked up as a whole first; then each of its characters.
      constexpr size_t kLongestCluster = 5;
      if (end - begin > kLongestCluster || !replaced(bytes.substr(begin, end - begin))) {
        for (size_t i = begin; i < end;) {
          const CodePoint c = code_point(bytes, i);
          if (!replaced(bytes.substr(i, c.bytes))) changes.push_back({c.code, 0});
          i += c.bytes;
        }
      }
      begin = end;
    }
    if (modified) rewrite(text, changes);
  }

 private:
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

  CharacterMap map_;
  std::string source_;
};

// As SentencePiece itself normalizes: the longest keys, white space in order, spaces visible.
class SentencePiece : public Normalizer {
 public:
  SentencePiece(SentencePieceNormalizerOptions options, const std::string& source)
      : o_(std::move(options)), source_(source) {
    if (!o_.map.empty()) map_.emplace(o_.map, source);
    std::vector<std::pair<std::string_view, int32_t>> keys;
    for (const std::string& s : o_.user_defined) keys.emplace_back(s, 0);
    user_defined_ = Trie(std::move(keys));
  }

  void run(Text& text) const override {
    Text out;
    out.most = text.most;
    const std::string_view bytes = text.bytes;
    size_t at = 0;
    while (o_.remove_extra_spaces && at < bytes.size() && next(bytes, at).with == " ")
      at += next(bytes, at).bytes;
    if (o_.dummy_prefix && at < bytes.size()) out.append(kSpace, text.from[at]);
    bool after_space = o_.remove_extra_spaces;
    while (at < bytes.size()) {
      CharacterMap::Hit hit = next(bytes, at);
      const Span s{text.from[at].begin, text.from[at + hit.bytes - 1].end};
      at += hit.bytes;
      while (after_space && hit.with.starts_with(' ')) hit.with.remove_prefix(1);
      if (hit.with.empty()) continue;
      check_growth(text, out.size() + 3 * hit.with.size(), source_);
      for (const char c : hit.with) {
        if (c == ' ')
          out.append(kSpace, s);
        else
          out.append(c, s);
      }
      after_space = o_.remove_extra_spaces && hit.with.ends_with(' ');
    }
    while (o_.remove_extra_spaces && out.bytes.ends_with(kSpace)) {
      out.bytes.resize(out.size() - kSpace.size());
      out.from.resize(out.size());
    }
    std::swap(text, out);
  }

 private:
  static constexpr std::string_view kSpace = "\u2581";

  CharacterMap::Hit next(std::string_view bytes, size_t at) const {
    const std::string_view rest = bytes.substr(at);
    if (const size_t n = user_defined_.longest(rest); n > 0) return {n, rest.substr(0, n)};
    CharacterMap::Hit hit;
    if (map_) hit = map_->find(rest, true);
    if (hit.bytes > 0) return hit;
    const uint32_t n = code_point(rest, 0).bytes;
    return {n, rest.substr(0, n)};
  }

  SentencePieceNormalizerOptions o_;
  std::string source_;
  std::optional<CharacterMap> map_;
  Trie user_defined_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled(const std::string& map, const std::string& source) {
  return std::make_unique<Precompiled>(map, source);
}

std::unique_ptr<Normalizer> make_sentencepiece_normalizer(SentencePieceNormalizerOptions options,
                                                          const std::string& source) {
  return std::make_unique<SentencePiece>(std::move(options), source);
}

}  // namespace graft
