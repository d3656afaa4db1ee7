#include "models/tokenizer/pretokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/fields.h"
#include "models/tokenizer/scanners.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

// The pieces of a word that matches of `behavior` leave, added to `out`.
void split_by(const std::vector<Match>& matches, SplitBehavior behavior, uint32_t begin,
              std::vector<Range>& out) {
  const size_t first = out.size();
  bool was_match = false;
  auto add = [&](Range r) { out.push_back({begin + r.begin, begin + r.end}); };
  for (size_t i = 0; i < matches.size(); ++i) {
    const auto& [r, is_match] = matches[i];
    switch (behavior) {
      case SplitBehavior::removed:
        if (!is_match) add(r);
        break;
      case SplitBehavior::isolated:
        add(r);
        break;
      case SplitBehavior::contiguous:
      case SplitBehavior::merged_with_previous: {
        const bool joins =
            behavior == SplitBehavior::contiguous ? is_match == was_match : is_match && !was_match;
        if (joins && out.size() > first)
          out.back().end = begin + r.end;
        else
          add(r);
        was_match = is_match;
        break;
      }
      case SplitBehavior::merged_with_next: {
        // Of several matches in a row the last one takes what follows.
        const bool joins = is_match && i + 1 < matches.size() && !matches[i + 1].is_match;
        add(r);
        if (joins) out.back().end = begin + matches[++i].range.end;
        break;
      }
    }
  }
  const auto added = out.begin() + static_cast<std::ptrdiff_t>(first);
  out.erase(std::remove_if(added, out.end(), [](Range r) { return r.begin == r.end; }), out.end());
}

class SplitPattern : public PreTokenizer {
 public:
  SplitPattern(std::unique_ptr<Pattern> pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void run(Words& w) const override {
    std::vector<Range> out;
    std::vector<Match> matches;
    for (const Range r : w.words) {
      matches.clear();
      pattern_->find(w.text.view(r), matches);
      if (invert_) {
        for (Match& m : matches) m.is_match = !m.is_match;
      }
      split_by(matches, behavior_, r.begin, out);
    }
    w.words.swap(out);
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Splits by the class that f gives each character. Class 0 is dropped, runs of classes below
// kAlone are words, and each character of kAlone and above is one.
constexpr int kAlone = 8;

template <typename F>
class SplitClasses : public PreTokenizer {
 public:
  explicit SplitClasses(F f) : f_(std::move(f)) {
    for (char32_t c = 0; c < 0x80; ++c) ascii_[c] = static_cast<int8_t>(f_(c));
  }

  void run(Words& w) const override {
    std::vector<Range> out;
    out.reserve(w.words.size() + w.text.size() / 4);
    for (const Range r : w.words) {
      const std::string_view bytes = w.text.bytes;
      int open = 0;
      uint32_t begin = r.begin;
      for (uint32_t i = r.begin; i < r.end;) {
        const CodePoint c = code_point(bytes, i);
        const int k = c.code < 0x80 ? ascii_[c.code] : f_(c.code);
        if (k != open || k >= kAlone) {
          if (open != 0) out.push_back({begin, i});
          begin = i;
          open = k;
        }
        i += c.bytes;
      }
      if (open != 0) out.push_back({begin, r.end});
    }
    w.words.swap(out);
  }

 private:
  F f_;
  int8_t ascii_[0x80];
};

template <typename F>
std::unique_ptr<PreTokenizer> split_classes(F f) {
  return std::make_unique<SplitClasses<F>>(std::move(f));
}

// Splits by GPT-2's pattern and writes each byte as a character.
class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), pattern_(use_regex ? gpt2_scanner() : nullptr) {
    for (size_t b = 0; b < 256; ++b) {
      const std::string_view c = byte_level_character(static_cast<unsigned char>(b));
      characters_[b] = {c[0], c.size() > 1 ? c[1] : '\0'};
    }
  }

  void run(Words& w) const override {
    Words out;
    out.text.most = w.text.most;
    // Nearly all spaces begin a word, and take two bytes.
    out.text.bytes.reserve(w.text.size() + w.text.size() / 4);
    out.text.from.reserve(w.text.size() + w.text.size() / 4);
    out.words.reserve(w.words.size() + w.text.size() / 4);
    std::vector<Match> matches;
    std::string prefixed;
    for (const Range r : w.words) {
      std::string_view text = w.text.view(r);
      const Span* from = w.text.from.data() + r.begin;
      const bool prefix = add_prefix_space_ && !text.starts_with(' ');
      if (prefix) {
        prefixed = " ";
        prefixed += text;
        text = prefixed;
      }
      matches.clear();
      if (pattern_ != nullptr)
        pattern_->find(text, matches);
      else
        matches.push_back({{0, static_cast<uint32_t>(text.size())}, true});
      for (const Match& m : matches) {
        const auto begin = static_cast<uint32_t>(out.text.size());
        for (uint32_t i = m.range.begin; i < m.range.end; ++i) {
          // The space that was put in front stands for the first character.
          const Span s = from[prefix && i > 0 ? i - 1 : i];
          const Character& c = characters_[static_cast<unsigned char>(text[i])];
          out.text.append(c.first, s);
          if (c.second != '\0') out.text.append(c.second, s);
        }
        out.words.push_back({begin, static_cast<uint32_t>(out.text.size())});
      }
    }
    std::swap(w, out);
  }

 private:
  struct Character {
    char first, second;  // UTF-8; second 0: there is none
  };
  bool add_prefix_space_;
  std::unique_ptr<Pattern> pattern_;
  Character characters_[256];
};

// Spaces become a visible character, which words begin with (SentencePiece).
class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { always, first, never };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void run(Words& w) const override {
    Words out;
    out.text.most = w.text.most;
    for (const Range r : w.words) {
      const auto begin = static_cast<uint32_t>(out.text.size());
      const std::string_view text = w.text.view(r);
      const bool marked = text.starts_with(' ') || text.starts_with(replacement_);
      const bool wanted = prepend_ == Prepend::always ||
                          (prepend_ == Prepend::first && w.text.from[r.begin].begin == 0);
      if (wanted && !marked) out.text.append(replacement_, w.text.from[r.begin]);
      for (uint32_t i = r.begin; i < r.end; ++i) {
        if (w.text.bytes[i] == ' ')
          out.text.append(replacement_, w.text.from[i]);
        else
          out.text.append(w.text.bytes[i], w.text.from[i]);
      }
      add_words({begin, static_cast<uint32_t>(out.text.size())}, out);
    }
    std::swap(w, out);
  }

 private:
  void add_words(Range r, Words& out) const {
    if (!split_) {
      out.words.push_back(r);
      return;
    }
    const std::string_view text = out.text.bytes;
    for (size_t begin = r.begin; begin < r.end;) {
      const size_t end = std::min<size_t>(text.find(replacement_, begin + 1), r.end);
      out.words.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      begin = end;
    }
  }

  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

class Sequence : public PreTokenizer {
 public:
  Sequence(std::vector<std::unique_ptr<PreTokenizer>> parts, std::string source)
      : parts_(std::move(parts)), source_(std::move(source)) {}
  void run(Words& w) const override {
    for (const auto& part : parts_) {
      part->run(w);
      check_growth(w.text, w.text.size(), source_);
    }
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
  std::string source_;
};

SplitBehavior read_behavior(const Json& j, const std::string& source, const char* fallback) {
  const auto name = json_field<std::string>(j, "behavior", source, fallback);
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  throw FileError(
      "{}: the field 'behavior' should be Removed, Isolated, MergedWithPrevious, MergedWithNext or "
      "Contiguous but is '{}'",
      source, name);
}

// A pattern of single characters.
template <typename F>
class CharacterPattern : public Pattern {
 public:
  explicit CharacterPattern(F f) : f_(std::move(f)) {}
  void find(std::string_view text, std::vector<Match>& out) const override {
    uint32_t covered = 0;
    for (uint32_t i = 0; i < text.size();) {
      const CodePoint c = code_point(text, i);
      if (f_(c.code)) {
        if (covered < i) out.push_back({{covered, i}, false});
        covered = i + c.bytes;
        out.push_back({{i, covered}, true});
      }
      i += c.bytes;
    }
    const auto size = static_cast<uint32_t>(text.size());
    if (covered < size) out.push_back({{covered, size}, false});
  }

 private:
  F f_;
};

template <typename F>
std::unique_ptr<PreTokenizer> split_characters(F f, SplitBehavior behavior) {
  return std::make_unique<SplitPattern>(std::make_unique<CharacterPattern<F>>(std::move(f)),
                                        behavior, false);
}

std::unique_ptr<PreTokenizer> read_split(const Json& j, const std::string& source) {
  std::unique_ptr<Pattern> pattern = read_pattern(j, source);
  const Json& given = j.at("pattern");
  if (given.contains("Regex")) {
    if (auto scanner = scanner_of(given.at("Regex").get<std::string>()))
      pattern = std::move(scanner);
  }
  return std::make_unique<SplitPattern>(std::move(pattern), read_behavior(j, source, ""),
                                        json_field<bool>(j, "invert", source, false));
}

std::unique_ptr<PreTokenizer> read_metaspace(const Json& j, const std::string& source) {
  const std::string replacement = json_character(j, "replacement", source, "\u2581");
  auto prepend = json_field<bool>(j, "add_prefix_space", source, true) ? Metaspace::Prepend::always
                                                                       : Metaspace::Prepend::never;
  if (json_optional(j, "prepend_scheme") != nullptr) {
    const auto scheme = json_field<std::string>(j, "prepend_scheme", source);
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      throw FileError("{}: the field 'prepend_scheme' should be always, first or never but is '{}'",
                      source, scheme);
    }
    prepend = scheme == "always"  ? Metaspace::Prepend::always
              : scheme == "first" ? Metaspace::Prepend::first
                                  : Metaspace::Prepend::never;
  }
  return std::make_unique<Metaspace>(replacement, prepend,
                                     json_field<bool>(j, "split", source, true));
}

}  // namespace

std::unique_ptr<PreTokenizer> make_bert_pretokenizer() {
  return split_classes([](char32_t c) {
    return is_whitespace(c) ? 0 : is_punctuation(c) ? kAlone : 1;
  });
}

std::unique_ptr<PreTokenizer> make_byte_level(bool add_prefix_space, bool use_regex) {
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex);
}

std::unique_ptr<PreTokenizer> read_pretokenizer(const Json& j, const std::string& source) {
  const auto type = json_field<std::string>(j, "type", source);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    for (const Json& part : json_list(j, "pretokenizers", source))
      parts.push_back(read_pretokenizer(part, source));
    return std::make_unique<Sequence>(std::move(parts), source);
  }
  if (type == "BertPreTokenizer") return make_bert_pretokenizer();
  if (type == "ByteLevel") {
    return make_byte_level(json_field<bool>(j, "add_prefix_space", source, true),
                           json_field<bool>(j, "use_regex", source, true));
  }
  if (type == "Metaspace") return read_metaspace(j, source);
  if (type == "Split") return read_split(j, source);
  if (type == "Whitespace") {  // \w+|[^\w\s]+
    return split_classes([](char32_t c) { return is_whitespace(c) ? 0 : is_word(c) ? 1 : 2; });
  }
  if (type == "WhitespaceSplit")
    return split_classes([](char32_t c) { return is_whitespace(c) ? 0 : 1; });
  if (type == "Punctuation")
    return split_characters(is_punctuation, read_behavior(j, source, "Isolated"));
  if (type == "Digits") {
    return split_characters(is_numeric, json_field<bool>(j, "individual_digits", source, false)
                                            ? SplitBehavior::isolated
                                            : SplitBehavior::contiguous);
  }
  if (type == "CharDelimiterSplit") {
    const std::string text = json_character(j, "delimiter", source, "");
    return split_characters([c = code_point(text, 0).code](char32_t x) { return x == c; },
                            SplitBehavior::removed);
  }
  throw UsageError(
      "{}: '{}' is not known; known: BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, "
      "Metaspace, Punctuation, Sequence, Split, Whitespace, WhitespaceSplit",
      source, type);
}

}  // namespace graft
