#include "models/tokenizer/added_tokens.h"

#include <algorithm>

#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

Trie trie_of(const std::vector<std::string>& contents) {
  std::vector<std::pair<std::string_view, int32_t>> keys;
  // Of tokens with one content the first counts, and of equal keys the last.
  for (size_t i = contents.size(); i-- > 0;)
    keys.emplace_back(contents[i], static_cast<int32_t>(i));
  return Trie(std::move(keys));
}

bool inside_word(std::string_view text, size_t begin, size_t end) {
  const CodePoint before = code_point_before(text, begin), after = code_point(text, end);
  return (before.bytes > 0 && is_word(before.code)) || (after.bytes > 0 && is_word(after.code));
}

}  // namespace

AddedTokens::AddedTokens(const std::vector<const AddedToken*>& tokens,
                         const std::vector<std::string>& contents)
    : tokens_(tokens), trie_(trie_of(contents)) {}

void AddedTokens::split(std::string_view text, std::vector<Part>& out) const {
  size_t covered = 0;
  auto range = [](size_t b, size_t e) {
    return Range{static_cast<uint32_t>(b), static_cast<uint32_t>(e)};
  };
  for (size_t at = 0; at < text.size() && !empty();) {
    Trie::Node n = trie_.start(text[at]);
    const AddedToken* token = nullptr;
    size_t match_end = at + 1;
    for (size_t i = at + 1; n != Trie::kNone; ++i) {
      if (const int32_t v = trie_.value(n); v >= 0) {
        token = tokens_[static_cast<size_t>(v)];
        match_end = i;
      }
      if (i == text.size()) break;
      n = trie_.child(n, text[i]);
    }
    const size_t match = std::exchange(at, match_end);
    if (token == nullptr || (token->single_word && inside_word(text, match, match_end))) continue;
    size_t begin = std::max(match, covered), end = match_end;
    if (token->left_strip) {
      for (CodePoint c; begin > covered; begin -= c.bytes) {
        c = code_point_before(text, begin);
        if (!is_whitespace(c.code)) break;
      }
    }
    if (token->right_strip) {
      for (CodePoint c = code_point(text, end); c.bytes > 0 && is_whitespace(c.code);
           c = code_point(text, end))
        end += c.bytes;
    }
    if (end <= covered) continue;  // white space that the token before took along
    if (covered < begin) out.push_back({range(covered, begin), nullptr});
    out.push_back({range(begin, end), token});
    covered = end;
  }
  if (covered < text.size()) out.push_back({range(covered, text.size()), nullptr});
}

}  // namespace graft
