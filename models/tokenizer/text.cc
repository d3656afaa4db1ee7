#include "models/tokenizer/text.h"

#include "core/error.h"
#include "models/tokenizer/unicode.h"

namespace graft {

void Text::append(char32_t code, Span s) {
  if (code < 0x80) {
    append(static_cast<char>(code), s);
    return;
  }
  append_utf8(bytes, code);
  from.resize(bytes.size(), s);
}

Span Text::span(Range r) const {
  if (r.begin < r.end) return {from[r.begin].begin, from[r.end - 1].end};
  const uint32_t at = r.begin < from.size() ? from[r.begin].begin
                      : from.empty()        ? 0
                                            : from.back().end;
  return {at, at};
}

void read_text(std::string_view utf8, Text& out) {
  constexpr size_t kMost = 1u << 30;  // offsets have 32 bits, and stages may lengthen a text
  if (utf8.size() > kMost) {
    throw UsageError("a text has {} bytes; at most {} can be encoded at once: split it",
                     utf8.size(), kMost);
  }
  constexpr size_t kGrowth = 64, kAlways = 1 << 20;  // NFKD makes 18 characters of one
  out.clear();
  out.most = kGrowth * utf8.size() + kAlways;
  out.bytes.reserve(utf8.size());
  out.from.reserve(utf8.size());
  uint32_t at = 0;  // code points so far
  for (size_t i = 0; i < utf8.size();) {
    size_t end = i;
    while (end < utf8.size() && static_cast<unsigned char>(utf8[end]) < 0x80) ++end;
    if (end > i) {  // ASCII in runs
      out.bytes.append(utf8, i, end - i);
      const size_t first = out.from.size();
      out.from.resize(out.bytes.size());
      for (size_t k = first; k < out.from.size(); ++k, ++at) out.from[k] = {at, at + 1};
      i = end;
      continue;
    }
    const CodePoint c = code_point(utf8, i);
    out.append(c.valid ? utf8.substr(i, c.bytes) : std::string_view("\uFFFD"), {at, at + 1});
    i += c.bytes;
    ++at;
  }
}

void rewrite(Text& text, std::span<const Change> changes, size_t removed) {
  Text out;
  out.most = text.most;
  out.bytes.reserve(text.size());
  out.from.reserve(text.size());
  const std::string_view old = text.bytes;
  size_t at = 0;  // of the next old character
  auto skip = [&](int64_t characters) {
    for (; characters > 0 && at < old.size(); --characters) at += code_point(old, at).bytes;
  };
  skip(static_cast<int64_t>(removed));
  for (const Change& c : changes) {
    Span s{0, 0};
    if (c.change > 0 || at >= old.size())
      s = at > 0 ? text.from[at - 1] : text.span({0, 0});
    else
      s = text.from[at];
    out.append(c.code, s);
    if (c.change <= 0) skip(1 - static_cast<int64_t>(c.change));
  }
  std::swap(text, out);
}

void check_growth(const Text& text, size_t bytes, const std::string& source) {
  if (bytes <= text.most) return;
  throw FileError(
      "{}: the stages before the model lengthen a text to {} bytes where {} should do; the file is "
      "damaged",
      source, bytes, text.most);
}

}  // namespace graft
