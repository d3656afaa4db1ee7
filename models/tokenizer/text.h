// Text on its way through the stages: UTF-8, and for every byte the code points of the original
// that it stands for.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct Span {
  uint32_t begin, end;  // code points of the original text
};

struct Range {
  uint32_t begin, end;  // bytes of a Text
};

// A character of a rewritten text and what became of the old ones: 0: it replaces one; 1: it is
// new, and of the place of the character before it; -n: it replaces one, and n more behind that
// one are gone.
struct Change {
  char32_t code;
  int32_t change;
};

struct Text {
  std::string bytes;
  std::vector<Span> from;
  size_t most = SIZE_MAX;  // bytes that a stage may make of it

  size_t size() const { return bytes.size(); }
  std::string_view view(Range r) const {
    return std::string_view(bytes).substr(r.begin, r.end - r.begin);
  }
  void clear() {
    bytes.clear();
    from.clear();
  }
  void append(char c, Span s) {
    bytes.push_back(c);
    from.push_back(s);
  }
  void append(char32_t code, Span s);
  void append(std::string_view characters, Span s) {
    bytes += characters;
    from.insert(from.end(), characters.size(), s);
  }
  void append(const Text& other, Range r) {
    bytes.append(other.bytes, r.begin, r.end - r.begin);
    from.insert(from.end(), other.from.begin() + r.begin, other.from.begin() + r.end);
  }
  // The original's code points from the first to the last of a range of bytes.
  Span span(Range r) const;
};

// Replaces `out` by a text given from outside. Malformed bytes read as U+FFFD.
void read_text(std::string_view utf8, Text& out);

// Replaces the text by `changes`, in order, after dropping `removed` characters at its beginning.
void rewrite(Text& text, std::span<const Change> changes, size_t removed = 0);

// A file may ask for texts to grow without bound: a replacement of one letter by a page, again and
// again. Throws FileError naming `source` where a stage would make more of the text than it may.
void check_growth(const Text& text, size_t bytes, const std::string& source);

}  // namespace graft
