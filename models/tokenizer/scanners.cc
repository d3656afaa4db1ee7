#include "models/tokenizer/scanners.h"

#include <array>

#include "models/tokenizer/unicode.h"

namespace graft {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Here {  // a character and its class
  CharClass k;
  uint32_t bytes;
};

class Scanner : public Pattern {
 public:
  Scanner() {
    for (char32_t c = 0; c < 0x80; ++c) ascii_[c] = char_class(c);
  }

  void find(std::string_view text, std::vector<Match>& out) const override {
    for (size_t at = 0; at < text.size();) {
      const size_t end = next(text, at);
      out.push_back({{static_cast<uint32_t>(at), static_cast<uint32_t>(end)}, true});
      at = end;
    }
  }

 protected:
  // Both patterns match at every character.
  virtual size_t next(std::string_view s, size_t at) const = 0;

  // Class other and 0 bytes at the end.
  Here look(std::string_view s, size_t at) const {
    if (at >= s.size()) return {CharClass::other, 0};
    const auto c = static_cast<unsigned char>(s[at]);
    if (c < 0x80) return {ascii_[c], 1};
    const CodePoint p = code_point(s, at);
    return {char_class(p.code), p.bytes};
  }

  // Behind a run of one class.
  size_t run(std::string_view s, size_t at, CharClass k) const {
    for (Here h = look(s, at); h.bytes > 0 && h.k == k; h = look(s, at)) at += h.bytes;
    return at;
  }

  // \s+(?!\S)|\s+ where white space stands: all of it at the end of a text, and otherwise all but
  // the last character, which belongs to what follows.
  size_t white_space(std::string_view s, size_t at) const {
    const size_t end = run(s, at, CharClass::space);
    if (end == s.size()) return end;
    const size_t last = end - code_point_before(s, end).bytes;
    return last > at ? last : end;
  }

 private:
  std::array<CharClass, 0x80> ascii_;
};

class Gpt2Scanner : public Scanner {
 protected:
  size_t next(std::string_view s, size_t at) const override {
    if (s[at] == '\'') {
      if (const size_t n = contraction(s.substr(at + 1))) return at + 1 + n;
    }
    const size_t start = at + (s[at] == ' ');  // " ?" before each of three classes
    const Here h = look(s, start);
    if (h.bytes > 0 && h.k != CharClass::space) return run(s, start, h.k);
    return white_space(s, at);
  }

 private:
  static size_t contraction(std::string_view s) {
    if (s.empty()) return 0;
    if (s[0] == 's' || s[0] == 't' || s[0] == 'm' || s[0] == 'd') return 1;
    return s.starts_with("re") || s.starts_with("ve") || s.starts_with("ll") ? 2 : 0;
  }
};

class Llama3Scanner : public Scanner {
 public:
  explicit Llama3Scanner(int digits) : digits_(digits) {}

 protected:
  size_t next(std::string_view s, size_t at) const override {
    if (s[at] == '\'') {
      if (const size_t n = contraction(s.substr(at + 1))) return at + 1 + n;
    }
    const Here h = look(s, at);
    if (h.k == CharClass::letter) return run(s, at, CharClass::letter);
    if (h.k == CharClass::number) {
      size_t end = at;
      Here d = h;
      for (int k = 0; k < digits_ && d.bytes > 0 && d.k == CharClass::number; ++k) {
        end += d.bytes;
        d = look(s, end);
      }
      return end;
    }
    // One character that is no line end may stand before letters.
    if (!is_line_end(s[at]) && look(s, at + h.bytes).k == CharClass::letter)
      return run(s, at + h.bytes, CharClass::letter);
    const size_t start = at + (s[at] == ' ');
    if (const Here o = look(s, start); o.bytes > 0 && o.k == CharClass::other) {
      size_t end = run(s, start, CharClass::other);
      while (end < s.size() && is_line_end(s[end])) ++end;
      return end;
    }
    // \s*[\r\n]+ takes the white space up to its last line end.
    const size_t end = run(s, at, CharClass::space);
    for (size_t i = end; i > at; --i) {
      if (is_line_end(s[i - 1])) return i;
    }
    return white_space(s, at);
  }

 private:
  static bool is_line_end(char c) { return c == '\n' || c == '\r'; }

  // Upper or lower case; the long s is one of s.
  static size_t contraction(std::string_view s) {
    if (s.starts_with("\u017F")) return 2;
    if (s.empty()) return 0;
    auto low = [&](size_t i) { return i < s.size() ? static_cast<char>(s[i] | 0x20) : '\0'; };
    const char a = low(0), b = low(1);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 1;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 2 : 0;
  }

  int digits_;
};

}  // namespace

std::unique_ptr<Pattern> gpt2_scanner() { return std::make_unique<Gpt2Scanner>(); }

std::unique_ptr<Pattern> llama3_scanner(int digits) {
  return std::make_unique<Llama3Scanner>(digits);
}

std::unique_ptr<Pattern> scanner_of(const std::string& expression) {
  if (expression == kGpt2Pattern) return gpt2_scanner();
  if (expression == kLlama3Pattern) return llama3_scanner(3);
  if (expression == kQwen2Pattern) return llama3_scanner(1);
  return nullptr;
}

}  // namespace graft
