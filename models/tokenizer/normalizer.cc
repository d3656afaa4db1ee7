#include "models/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "core/error.h"
#include "models/tokenizer/fields.h"
#include "models/tokenizer/regex.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

// The one capital whose lower case is two characters, I with a dot.
constexpr char32_t kDottedI = 0x130, kDotAbove = 0x307;

// Normalizers that decide about one character at a time: f(code, span, out) appends what it
// becomes.
template <typename F>
class Each : public Normalizer {
 public:
  explicit Each(F f) : f_(std::move(f)) {}
  void run(Text& text) const override {
    Text out;
    out.most = text.most;
    out.bytes.reserve(text.size());
    out.from.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
      const CodePoint c = code_point(text.bytes, i);
      f_(c.code, text.from[i], out);
      i += c.bytes;
    }
    std::swap(text, out);
  }

 private:
  F f_;
};

template <typename F>
std::unique_ptr<Normalizer> each(F f) {
  return std::make_unique<Each<F>>(std::move(f));
}

void append_lowered(char32_t c, Span s, Text& out) {
  out.append(c == kDottedI ? U'i' : lowered(c), s);
  if (c == kDottedI) out.append(kDotAbove, s);
}

// Cleaned, lower-cased, without accents, in one pass: accents go with the characters that they are
// on. Only where a mark is left that Unicode's order of marks may move, which hardly a text has, is
// the text decomposed as a whole.
class Bert : public Normalizer {
 public:
  explicit Bert(const BertNormalizerOptions& options) : o_(options) {
    if (!o_.strip_accents) return;
    BertNormalizerOptions before = options;
    before.strip_accents = before.lowercase = false;
    ordered_.push_back(std::make_unique<Bert>(before));
    ordered_.push_back(make_normal_form(NormalForm::nfd));
    ordered_.push_back(each([lowercase = o_.lowercase](char32_t c, Span s, Text& out) {
      if (is_nonspacing_mark(c)) return;
      if (lowercase)
        append_lowered(c, s, out);
      else
        out.append(c, s);
    }));
  }

  void run(Text& text) const override {
    Text out;
    out.most = text.most;
    out.bytes.reserve(text.size());
    out.from.reserve(text.size());
    const std::string_view bytes = text.bytes;
    for (size_t i = 0; i < bytes.size();) {
      const CodePoint p = code_point(bytes, i);
      const Span s = text.from[i];
      i += p.bytes;
      if (p.code < 0x80) {
        ascii(static_cast<char>(p.code), s, out);
      } else if (!other(p.code, s, out)) {
        for (const auto& part : ordered_) part->run(text);
        return;
      }
    }
    std::swap(text, out);
  }

 private:
  void ascii(char c, Span s, Text& out) const {
    const auto code = static_cast<unsigned char>(c);
    if (o_.clean_text && (code < 33 || code == 127)) {
      if (is_control(code)) return;
      c = ' ';
    } else if (o_.lowercase && c >= 'A' && c <= 'Z') {
      c = static_cast<char>(c + 32);
    }
    out.append(c, s);
  }

  // False where the order of marks matters.
  bool other(char32_t c, Span s, Text& out) const {
    if (o_.clean_text) {
      if (c == 0xFFFD || is_control(c)) return true;
      if (is_whitespace(c)) c = ' ';
    }
    const bool spaced = o_.chinese_chars && is_chinese(c);
    if (spaced) out.append(' ', s);
    utf8proc_int32_t parts[32] = {static_cast<utf8proc_int32_t>(c)};
    utf8proc_ssize_t n = 1;
    if (o_.strip_accents && c >= 0x80) {
      int boundary = 0;
      n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32, UTF8PROC_DECOMPOSE,
                                  &boundary);
    }
    for (utf8proc_ssize_t k = 0; k < n; ++k) {
      const auto part = static_cast<char32_t>(parts[k]);
      if (o_.strip_accents && part >= 0x300) {
        if (is_nonspacing_mark(part)) continue;
        if (utf8proc_get_property(parts[k])->combining_class != 0) return false;
      }
      if (o_.lowercase)
        append_lowered(part, s, out);
      else
        out.append(part, s);
    }
    if (spaced) out.append(' ', s);
    return true;
  }

  BertNormalizerOptions o_;
  std::vector<std::unique_ptr<Normalizer>> ordered_;  // the same one after another
};

// The cleaning of SentencePiece's rule "nmt".
void append_nmt(char32_t c, Span s, Text& out) {
  const bool gone = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                    c == 0x8F || c == 0x9F;
  if (gone) return;
  const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                     (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                     c == 0xFEFF || c == 0xFFFD;
  out.append(space ? U' ' : c, s);
}

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void run(Text& text) const override {
    const std::string_view bytes = text.bytes;
    size_t begin = 0, end = bytes.size();
    while (left_ && begin < end && is_whitespace(code_point(bytes, begin).code))
      begin += code_point(bytes, begin).bytes;
    while (right_ && end > begin) {
      const CodePoint last = code_point_before(bytes, end);
      if (!is_whitespace(last.code)) break;
      end -= last.bytes;
    }
    text.bytes = text.bytes.substr(begin, end - begin);
    text.from.erase(text.from.begin() + static_cast<std::ptrdiff_t>(end), text.from.end());
    text.from.erase(text.from.begin(), text.from.begin() + static_cast<std::ptrdiff_t>(begin));
  }

 private:
  bool left_, right_;
};

class Replace : public Normalizer {
 public:
  Replace(std::unique_ptr<Pattern> pattern, std::string with, std::string source)
      : pattern_(std::move(pattern)), with_(std::move(with)), source_(std::move(source)) {}

  void run(Text& text) const override {
    std::vector<Match> matches;
    pattern_->find(text.bytes, matches);
    if (std::ranges::none_of(matches, &Match::is_match)) return;
    size_t size = 0;
    for (const Match& m : matches) size += m.is_match ? with_.size() : m.range.end - m.range.begin;
    check_growth(text, size, source_);
    Text out;
    out.most = text.most;
    out.bytes.reserve(size);
    out.from.reserve(size);
    for (const Match& m : matches) {
      if (m.is_match) {  // it stands for the last character of what it replaces
        out.append(with_, m.range.end > 0 ? text.from[m.range.end - 1] : text.span({0, 0}));
      } else {
        out.append(text, m.range);
      }
    }
    std::swap(text, out);
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string with_, source_;
};

class Prepend : public Normalizer {
 public:
  Prepend(std::string what, std::string source)
      : what_(std::move(what)), source_(std::move(source)) {}
  void run(Text& text) const override {
    if (text.size() == 0) return;
    check_growth(text, text.size() + what_.size(), source_);
    text.from.insert(text.from.begin(), what_.size(), text.from.front());
    text.bytes.insert(0, what_);
  }

 private:
  std::string what_, source_;
};

class Sequence : public Normalizer {
 public:
  Sequence(std::vector<std::unique_ptr<Normalizer>> parts, std::string source)
      : parts_(std::move(parts)), source_(std::move(source)) {}
  void run(Text& text) const override {
    for (const auto& part : parts_) {
      part->run(text);
      check_growth(text, text.size(), source_);
    }
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
  std::string source_;
};

std::string from_base64(const std::string& text, const std::string& source) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int v = c >= 'A' && c <= 'Z'   ? c - 'A'
                  : c >= 'a' && c <= 'z' ? c - 'a' + 26
                  : c >= '0' && c <= '9' ? c - '0' + 52
                  : c == '+'             ? 62
                  : c == '/'             ? 63
                                         : -1;
    if (v < 0) {
      throw FileError("{}: the field 'precompiled_charsmap' is not text in base 64", source);
    }
    bits = bits << 6 | static_cast<uint32_t>(v);
    if ((count += 6) >= 8) out.push_back(static_cast<char>(bits >> (count -= 8) & 0xFF));
  }
  return out;
}

}  // namespace

std::unique_ptr<Normalizer> make_bert_normalizer(const BertNormalizerOptions& options) {
  return std::make_unique<Bert>(options);
}

std::unique_ptr<Normalizer> read_normalizer(const Json& j, const std::string& source) {
  const auto type = json_field<std::string>(j, "type", source);
  auto flag = [&](const char* key, bool fallback) {
    return json_field<bool>(j, key, source, fallback);
  };
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> parts;
    for (const Json& part : json_list(j, "normalizers", source))
      parts.push_back(read_normalizer(part, source));
    return std::make_unique<Sequence>(std::move(parts), source);
  }
  if (type == "BertNormalizer") {
    const bool lowercase = flag("lowercase", true);
    return make_bert_normalizer({flag("clean_text", true), flag("handle_chinese_chars", true),
                                 lowercase, flag("strip_accents", lowercase)});
  }
  if (type == "NFC") return make_normal_form(NormalForm::nfc);
  if (type == "NFD") return make_normal_form(NormalForm::nfd);
  if (type == "NFKC") return make_normal_form(NormalForm::nfkc);
  if (type == "NFKD") return make_normal_form(NormalForm::nfkd);
  if (type == "Lowercase") return each(append_lowered);
  if (type == "Nmt") return each(append_nmt);
  if (type == "StripAccents") {
    return each([](char32_t c, Span s, Text& out) {
      if (!is_mark(c)) out.append(c, s);
    });
  }
  if (type == "Strip")
    return std::make_unique<Strip>(flag("strip_left", true), flag("strip_right", true));
  if (type == "Replace") {
    return std::make_unique<Replace>(read_pattern(j, source),
                                     json_field<std::string>(j, "content", source), source);
  }
  if (type == "Prepend")
    return std::make_unique<Prepend>(json_field<std::string>(j, "prepend", source), source);
  if (type == "Precompiled") {
    const auto map = json_field<std::string>(j, "precompiled_charsmap", source);
    return make_precompiled(from_base64(map, source), source);
  }
  throw UsageError(
      "{}: '{}' is not known; known: BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, "
      "Precompiled, Prepend, Replace, Sequence, Strip, StripAccents",
      source, type);
}

}  // namespace graft
