// Unicode normal forms, with what becomes of each character.
#include <utf8proc.h>

#include <algorithm>

#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

int combining_class(char32_t c) {
  return c < 0x300 ? 0 : utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

// The character that two make together; 0: none.
char32_t composed(char32_t a, char32_t b) {
  utf8proc_int32_t pair[3] = {static_cast<utf8proc_int32_t>(a), static_cast<utf8proc_int32_t>(b),
                              0};
  const auto n = utf8proc_normalize_utf32(
      pair, 2, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  return n == 1 ? static_cast<char32_t>(pair[0]) : 0;
}

// Decomposed characters; those that combine with the one before them in the order of their
// classes.
std::vector<Change> decomposed(std::string_view text, bool compatibility) {
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<Change> out;
  out.reserve(text.size());
  size_t starter = 0;
  auto sort_marks = [&] {
    std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(starter), out.end(),
                     [](const Change& a, const Change& b) {
                       return combining_class(a.code) < combining_class(b.code);
                     });
  };
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point(text, i);
    i += c.bytes;
    utf8proc_int32_t parts[32];
    utf8proc_ssize_t n = 1;
    parts[0] = static_cast<utf8proc_int32_t>(c.code);
    if (c.code >= 0x80) {
      int boundary = 0;
      n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code), parts, 32, options,
                                  &boundary);
      if (n <= 0 || n > 32) {
        n = 1;
        parts[0] = static_cast<utf8proc_int32_t>(c.code);
      }
    }
    for (utf8proc_ssize_t k = 0; k < n; ++k) {
      const auto part = static_cast<char32_t>(parts[k]);
      if (combining_class(part) == 0) {
        sort_marks();
        starter = out.size();
      }
      out.push_back({part, k > 0});
    }
  }
  sort_marks();
  return out;
}

// Puts marks, and Hangul vowels and finals, into the starter before them where one character is
// both.
std::vector<Change> recomposed(const std::vector<Change>& in) {
  std::vector<Change> out;
  out.reserve(in.size());
  size_t starter = std::string::npos;
  int last_class = -1;  // of what stands between the starter and here; -1: nothing
  for (const Change& c : in) {
    const int k = combining_class(c.code);
    if (starter != std::string::npos && (last_class < k || last_class == -1)) {
      if (const char32_t both = composed(out[starter].code, c.code); both != 0) {
        out[starter].code = both;
        out[starter].change += c.change - 1;
        continue;
      }
    }
    if (k == 0) {
      starter = out.size();
      last_class = -1;
    } else {
      last_class = k;
    }
    out.push_back(c);
  }
  return out;
}

class Form : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void run(Text& text) const override {
    if (std::ranges::none_of(text.bytes, [](char c) { return (c & 0x80) != 0; })) return;
    const bool compatibility = form_ == NormalForm::nfkc || form_ == NormalForm::nfkd;
    std::vector<Change> changes = decomposed(text.bytes, compatibility);
    if (form_ == NormalForm::nfc || form_ == NormalForm::nfkc) changes = recomposed(changes);
    rewrite(text, changes);
  }

 private:
  NormalForm form_;
};

}  // namespace

std::unique_ptr<Normalizer> make_normal_form(NormalForm form) {
  return std::make_unique<Form>(form);
}

}  // namespace graft
