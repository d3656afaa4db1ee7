// WordPiece: the longest token that a word begins with, again and again; and WordLevel, whose words
// are tokens or unknown.
#include "core/error.h"
#include "models/tokenizer/model.h"
#include "models/tokenizer/trie.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

Trie trie_of(const Vocabulary& v) {
  std::vector<std::pair<std::string_view, int32_t>> keys;
  keys.reserve(v.tokens().size());
  for (const std::string& token : v.tokens()) {
    if (!token.empty()) keys.emplace_back(token, v.id_of(token));
  }
  return Trie(std::move(keys));
}

class WordPiece : public SubwordModel {
 public:
  WordPiece(const Vocabulary& v, const WordPieceOptions& o, const std::string& source)
      : trie_(trie_of(v)),
        continued_(trie_.walk(o.prefix)),
        unknown_(v.required(o.unknown, source)),
        max_chars_(static_cast<size_t>(o.max_chars)) {}

  void cut(std::string_view word, ModelScratch&, std::vector<Piece>& out) const override {
    const size_t before = out.size();
    const auto size = static_cast<uint32_t>(word.size());
    if (is_short(word)) {
      for (uint32_t begin = 0; begin < size;) {
        Trie::Node n = begin == 0 ? Trie::kRoot : continued_;
        int32_t id = -1;
        uint32_t end = begin;
        for (uint32_t i = begin; i < size && n != Trie::kNone; ++i) {
          n = n == Trie::kRoot ? trie_.start(word[i]) : trie_.child(n, word[i]);
          if (n != Trie::kNone && trie_.value(n) >= 0) {
            id = trie_.value(n);
            end = i + 1;
          }
        }
        if (id < 0) break;
        out.push_back({id, begin, end});
        begin = end;
        if (begin == size) return;
      }
    }
    out.resize(before);
    out.push_back({unknown_, 0, size});
  }

 private:
  bool is_short(std::string_view word) const {
    if (word.size() <= max_chars_) return true;
    size_t chars = 0;
    for (const char c : word) chars += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return chars <= max_chars_;
  }

  Trie trie_;
  Trie::Node continued_;  // what follows the prefix of pieces inside a word
  int32_t unknown_;
  size_t max_chars_;
};

class WordLevel : public SubwordModel {
 public:
  WordLevel(const Vocabulary& v, const std::string& unknown, const std::string& source)
      : trie_(trie_of(v)), unknown_(v.required(unknown, source)) {}

  void cut(std::string_view word, ModelScratch&, std::vector<Piece>& out) const override {
    const Trie::Node n = trie_.walk(word);
    const int32_t id = n == Trie::kNone ? -1 : trie_.value(n);
    out.push_back({id < 0 ? unknown_ : id, 0, static_cast<uint32_t>(word.size())});
  }

 private:
  Trie trie_;
  int32_t unknown_;
};

}  // namespace

std::unique_ptr<SubwordModel> make_wordpiece(const Vocabulary& vocabulary,
                                             const WordPieceOptions& options,
                                             const std::string& source) {
  // Cutting a word may take time with the square of its length.
  constexpr int64_t kMostChars = 1000;
  if (options.max_chars < 1 || options.max_chars > kMostChars) {
    throw FileError("{}: the field 'max_input_chars_per_word' should be 1 to {} but is {}", source,
                    kMostChars, options.max_chars);
  }
  return std::make_unique<WordPiece>(vocabulary, options, source);
}

std::unique_ptr<SubwordModel> make_wordlevel(const Vocabulary& vocabulary,
                                             const std::string& unknown,
                                             const std::string& source) {
  return std::make_unique<WordLevel>(vocabulary, unknown, source);
}

}  // namespace graft
