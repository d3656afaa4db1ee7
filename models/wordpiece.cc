// WordPiece: the longest piece of the vocabulary that a word begins with, again and again (Hugging
// Face tokenizers' BERT pipeline).
#include "models/wordpiece.h"

#include <algorithm>

namespace graft {
namespace {

class WordPiece : public Tokenizer {
 public:
  explicit WordPiece(WordPieceModel model) : m_(std::move(model)) {
    for (const auto& [token, id] : m_.vocabulary) longest_ = std::max(longest_, token.size());
  }

  Encoding encode(std::string_view text, bool add_special, int64_t max_length) const override {
    Encoding a = words(text);
    if (!add_special) {
      if (max_length > 0) truncate(a, max_length);
      return a;
    }
    if (max_length > 0) truncate(a, std::max<int64_t>(0, max_length - specials(m_.single)));
    return assemble(m_.single, a, {});
  }

  Encoding encode_pair(std::string_view first, std::string_view second,
                       int64_t max_length) const override {
    Encoding a = words(first), b = words(second);
    if (max_length > 0) {
      const auto room = std::max<int64_t>(0, max_length - specials(m_.pair));
      auto na = static_cast<int64_t>(a.ids.size()), nb = static_cast<int64_t>(b.ids.size());
      if (na + nb > room) {  // longest first, as the reference halves it
        const bool swap = na > nb;
        if (swap) std::swap(na, nb);
        nb = na > room ? na : std::max(na, room - na);
        if (na + nb > room) {
          na = room / 2;
          nb = na + room % 2;
        }
        if (swap) std::swap(na, nb);
      }
      truncate(a, na);
      truncate(b, nb);
    }
    return assemble(m_.pair, a, b);
  }

  std::string decode(const std::vector<int64_t>& ids, bool skip_special) const override {
    std::string out;
    bool first = true;
    for (int64_t id : ids) {
      if (id < 0 || id >= vocabulary_size() || (skip_special && m_.special.contains(id))) continue;
      std::string token = m_.tokens[static_cast<size_t>(id)];
      if (!first)
        token = token.starts_with(m_.prefix) ? token.substr(m_.prefix.size()) : " " + token;
      first = false;
      static const std::pair<const char*, const char*> cleanup[] = {
          {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
          {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
          {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
      for (const auto& [from, to] : cleanup) {
        for (size_t at = 0; (at = token.find(from, at)) != std::string::npos;
             at += std::string_view(to).size()) {
          token.replace(at, std::string_view(from).size(), to);
        }
      }
      out += token;
    }
    return out;
  }

  int64_t vocabulary_size() const override { return static_cast<int64_t>(m_.tokens.size()); }
  int64_t pad_id() const override { return m_.id_of("[PAD]", 0); }

 private:
  static int64_t specials(const std::vector<TemplatePiece>& pieces) {
    return std::ranges::count_if(pieces, [](const TemplatePiece& p) { return p.sequence < 0; });
  }

  static void truncate(Encoding& e, int64_t n) {
    const auto size = static_cast<size_t>(n);
    if (e.ids.size() <= size) return;
    e.ids.resize(size);
    e.tokens.resize(size);
    e.offsets.resize(size);
    e.type_ids.resize(size);
    e.special.resize(size);
  }

  Encoding assemble(const std::vector<TemplatePiece>& pieces, const Encoding& a,
                    const Encoding& b) const {
    Encoding out;
    for (const TemplatePiece& p : pieces) {
      if (p.sequence < 0) {
        push(out, p.id, m_.tokens[static_cast<size_t>(p.id)], 0, 0, true);
      } else {
        const Encoding& e = p.sequence == 0 ? a : b;
        out.ids.insert(out.ids.end(), e.ids.begin(), e.ids.end());
        out.tokens.insert(out.tokens.end(), e.tokens.begin(), e.tokens.end());
        out.offsets.insert(out.offsets.end(), e.offsets.begin(), e.offsets.end());
        out.special.insert(out.special.end(), e.special.begin(), e.special.end());
      }
      out.type_ids.resize(out.ids.size(), p.type);
    }
    return out;
  }

  static void push(Encoding& e, int64_t id, std::string token, int64_t begin, int64_t end,
                   bool special) {
    e.ids.push_back(id);
    e.tokens.push_back(std::move(token));
    e.offsets.emplace_back(begin, end);
    e.special.push_back(special);
  }

  // Added tokens are found in the raw text; what lies between is normalized, split and cut into
  // pieces.
  Encoding words(std::string_view utf8) const {
    const std::vector<char32_t> text = decode_utf8(utf8);
    Encoding out;
    size_t from = 0;
    auto plain = [&](size_t to) {
      const std::vector<char32_t> part(text.begin() + static_cast<std::ptrdiff_t>(from),
                                       text.begin() + static_cast<std::ptrdiff_t>(to));
      for (const Characters& word :
           split_bert(normalize_bert(part, static_cast<int64_t>(from), m_.text)))
        pieces(word, out);
    };
    for (size_t i = 0; i < text.size();) {
      const AddedToken* hit = nullptr;
      for (const AddedToken& t : m_.added) {
        if (t.content.size() <= text.size() - i &&
            std::equal(t.content.begin(), t.content.end(),
                       text.begin() + static_cast<std::ptrdiff_t>(i))) {
          const bool inside =
              t.single_word &&
              ((i > 0 && is_word(text[i - 1])) ||
               (i + t.content.size() < text.size() && is_word(text[i + t.content.size()])));
          if (!inside) {
            hit = &t;
            break;
          }
        }
      }
      if (hit == nullptr) {
        ++i;
        continue;
      }
      size_t begin = i, end = i + hit->content.size();
      if (hit->left_strip)
        while (begin > from && text[begin - 1] == ' ') --begin;
      if (hit->right_strip)
        while (end < text.size() && text[end] == ' ') ++end;
      plain(begin);
      push(out, hit->id, hit->text, static_cast<int64_t>(begin), static_cast<int64_t>(end), false);
      from = i = end;
    }
    plain(text.size());
    out.type_ids.assign(out.ids.size(), 0);
    return out;
  }

  static bool is_word(char32_t c) {
    return c == '_' || (c < 128 ? std::isalnum(static_cast<int>(c)) != 0 : true);
  }

  void pieces(const Characters& word, Encoding& out) const {
    const int64_t begin = word.front().at, end = word.back().at + 1;
    const size_t before = out.ids.size();
    if (static_cast<int64_t>(word.size()) <= m_.max_chars) {
      std::string bytes;
      std::vector<size_t> starts;  // byte offset of each character
      for (const Character& c : word) {
        starts.push_back(bytes.size());
        append_utf8(bytes, c.code);
      }
      starts.push_back(bytes.size());
      std::string candidate;
      for (size_t i = 0; i < word.size();) {
        size_t n = word.size();
        int64_t id = -1;
        for (; n > i; --n) {
          if (starts[n] - starts[i] > longest_) continue;
          candidate.assign(i > 0 ? m_.prefix : "");
          candidate.append(bytes, starts[i], starts[n] - starts[i]);
          if (const auto it = m_.vocabulary.find(candidate); it != m_.vocabulary.end()) {
            id = it->second;
            break;
          }
        }
        if (id < 0) break;
        push(out, id, candidate, word[i].at, word[n - 1].at + 1, false);
        i = n;
        if (i == word.size()) return;
      }
    }
    out.ids.resize(before);
    out.tokens.resize(before);
    out.offsets.resize(before);
    out.special.resize(before);
    push(out, m_.vocabulary.at(m_.unknown), m_.unknown, begin, end, false);
  }

  WordPieceModel m_;
  size_t longest_ = 0;  // bytes of a token: no piece has more
};

}  // namespace

std::unique_ptr<Tokenizer> wordpiece(WordPieceModel model) {
  return std::make_unique<WordPiece>(std::move(model));
}

}  // namespace graft
