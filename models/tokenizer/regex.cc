#include "models/tokenizer/regex.h"

#include <oniguruma.h>

#include <mutex>

#include "core/error.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

OnigEncoding encoding() {
  static std::once_flag once;
  std::call_once(once, [] {
    OnigEncoding utf8 = ONIG_ENCODING_UTF8;
    onig_initialize(&utf8, 1);
    onig_set_parse_depth_limit(200);  // the parser recurses
  });
  return ONIG_ENCODING_UTF8;
}

const OnigUChar* bytes_of(std::string_view s) {
  return reinterpret_cast<const OnigUChar*>(s.data());
}

std::string message_of(int code, OnigErrorInfo* info) {
  OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int n = onig_error_code_to_str(text, code, info);
  return {reinterpret_cast<const char*>(text), static_cast<size_t>(n)};
}

class Regex : public Pattern {
 public:
  Regex(const std::string& expression, const std::string& source)
      : source_(source), shown_(expression.substr(0, 80)) {
    constexpr size_t kLongest = 10000;
    if (expression.size() > kLongest) {
      throw FileError("{}: a pattern has {} bytes; at most {} are read", source, expression.size(),
                      kLongest);
    }
    OnigErrorInfo info;
    OnigRegex compiled = nullptr;
    const int code =
        onig_new(&compiled, bytes_of(expression), bytes_of(expression) + expression.size(),
                 ONIG_OPTION_NONE, encoding(), ONIG_SYNTAX_DEFAULT, &info);
    if (code != ONIG_NORMAL) {
      throw FileError("{}: the pattern '{}' is not a regular expression: {}", source, shown_,
                      message_of(code, &info));
    }
    regex_.reset(compiled);
    param_.reset(onig_new_match_param());
    onig_initialize_match_param(param_.get());
    // A sound pattern backtracks a few times per character; words are short, but a run of white
    // space may have the length of a page.
    onig_set_match_stack_limit_size_of_match_param(param_.get(), 1u << 20);
    onig_set_retry_limit_in_match_of_match_param(param_.get(), 10'000'000);
    onig_set_retry_limit_in_search_of_match_param(param_.get(), 20'000'000);
  }

  void find(std::string_view text, std::vector<Match>& out) const override {
    const std::unique_ptr<OnigRegion, decltype([](OnigRegion* r) { onig_region_free(r, 1); })>
        region(onig_region_new());
    const OnigUChar *begin = bytes_of(text), *end = begin + text.size();
    size_t covered = 0, from = 0, last = std::string_view::npos;
    auto add = [&](size_t b, size_t e, bool is_match) {
      out.push_back({{static_cast<uint32_t>(b), static_cast<uint32_t>(e)}, is_match});
    };
    while (from <= text.size()) {
      const int code = onig_search_with_param(regex_.get(), begin, end, begin + from, end,
                                              region.get(), ONIG_OPTION_NONE, param_.get());
      if (code == ONIG_MISMATCH) break;
      if (code < 0) {
        throw FileError("{}: the pattern '{}' cannot be run on a text of {} bytes: {}", source_,
                        shown_, text.size(), message_of(code, nullptr));
      }
      const auto b = static_cast<size_t>(region->beg[0]), e = static_cast<size_t>(region->end[0]);
      if (b == e && e == last) {  // an empty match right behind a match is none
        from = e + std::max(1u, code_point(text, e).bytes);
        continue;
      }
      from = last = e;
      if (covered < b) add(covered, b, false);
      add(b, e, true);
      covered = e;
    }
    if (covered < text.size()) add(covered, text.size(), false);
  }

 private:
  std::unique_ptr<OnigRegexType, decltype([](OnigRegexType* r) { onig_free(r); })> regex_;
  std::unique_ptr<OnigMatchParam, decltype([](OnigMatchParam* p) { onig_free_match_param(p); })>
      param_;
  std::string source_, shown_;
};

class Literal : public Pattern {
 public:
  explicit Literal(std::string text) : text_(std::move(text)) {}

  void find(std::string_view text, std::vector<Match>& out) const override {
    size_t covered = 0;
    auto add = [&](size_t b, size_t e, bool is_match) {
      out.push_back({{static_cast<uint32_t>(b), static_cast<uint32_t>(e)}, is_match});
    };
    if (!text_.empty()) {
      for (size_t at = 0; (at = text.find(text_, at)) != std::string_view::npos;) {
        if (covered < at) add(covered, at, false);
        covered = at + text_.size();
        add(at, covered, true);
        at = covered;
      }
    }
    if (covered < text.size()) add(covered, text.size(), false);
  }

 private:
  std::string text_;
};

constexpr char32_t kTabled = 0x10000;

struct Classes {
  OnigCtype letter, number;
  std::vector<CharClass> table;  // of the characters below kTabled

  Classes() : letter(property("L")), number(property("N")), table(kTabled, CharClass::other) {
    fill(letter, CharClass::letter);
    fill(number, CharClass::number);
    fill(ONIGENC_CTYPE_SPACE, CharClass::space);
  }

  static OnigCtype property(const char* name) {
    OnigEncoding e = encoding();
    auto* p = const_cast<OnigUChar*>(reinterpret_cast<const OnigUChar*>(name));  // only read
    return static_cast<OnigCtype>(
        e->property_name_to_ctype(e, p, p + std::char_traits<char>::length(name)));
  }

  void fill(OnigCtype k, CharClass as) {
    OnigCodePoint first = 0;
    const OnigCodePoint* ranges = nullptr;  // count, then pairs of first and last
    encoding()->get_ctype_code_range(k, &first, &ranges);
    for (OnigCodePoint i = 0; i < ranges[0]; ++i) {
      for (OnigCodePoint c = ranges[1 + 2 * i]; c <= ranges[2 + 2 * i] && c < kTabled; ++c)
        table[c] = as;
    }
  }
};

}  // namespace

std::unique_ptr<Pattern> make_regex(const std::string& expression, const std::string& source) {
  return std::make_unique<Regex>(expression, source);
}

std::unique_ptr<Pattern> make_literal(std::string text) {
  return std::make_unique<Literal>(std::move(text));
}

std::unique_ptr<Pattern> read_pattern(const Json& j, const std::string& source) {
  const auto pattern = json_field<Json>(j, "pattern", source);
  if (pattern.is_object() && pattern.size() == 1 && pattern.contains("String"))
    return make_literal(json_field<std::string>(pattern, "String", source + ": pattern"));
  if (pattern.is_object() && pattern.size() == 1 && pattern.contains("Regex")) {
    return make_regex(json_field<std::string>(pattern, "Regex", source + ": pattern"),
                      source + ": pattern");
  }
  throw FileError("{}: the field 'pattern' should be {{\"String\": ...}} or {{\"Regex\": ...}}",
                  source);
}

CharClass char_class(char32_t c) {
  static const Classes classes;
  if (c < kTabled) return classes.table[c];
  const OnigEncoding e = encoding();
  if (e->is_code_ctype(c, classes.letter)) return CharClass::letter;
  if (e->is_code_ctype(c, classes.number)) return CharClass::number;
  return e->is_code_ctype(c, ONIGENC_CTYPE_SPACE) ? CharClass::space : CharClass::other;
}

}  // namespace graft
