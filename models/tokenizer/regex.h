// Patterns of tokenizer files: Oniguruma, as in Hugging Face tokenizers, with limits on what a
// pattern may cost; and plain strings.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "models/tokenizer/text.h"

namespace graft {

struct Match {
  Range range;
  bool is_match;  // false: what lies between matches
};

class Pattern {
 public:
  virtual ~Pattern() = default;
  // Appends matches and what lies between them, so that they cover the text. Throws FileError
  // where a pattern takes more steps than any sound one needs.
  virtual void find(std::string_view text, std::vector<Match>& out) const = 0;
};

// `source` names the file and the field in errors.
std::unique_ptr<Pattern> make_regex(const std::string& expression, const std::string& source);
std::unique_ptr<Pattern> make_literal(std::string text);
// {"String": ...} or {"Regex": ...} in the field `pattern` of `j`.
std::unique_ptr<Pattern> read_pattern(const Json& j, const std::string& source);

// Which of \p{L}, \p{N} and \s a regular expression takes a character for.
enum class CharClass : uint8_t { other, letter, number, space };
CharClass char_class(char32_t c);

}  // namespace graft
