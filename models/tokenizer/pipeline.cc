#include "models/tokenizer/pipeline.h"

#include <algorithm>
#include <mutex>

#include "models/tokenizer/word_cache.h"

namespace graft {
namespace {

// What an encoding needs of memory; kept for the next one.
struct Scratch {
  Text original, part;
  Words words;
  std::vector<AddedTokens::Part> parts, inner_parts;
  std::vector<Piece> pieces;
  ModelScratch model;
  WordCache cache;
};

// As many scratches as there are encodings at one time.
class Scratches {
 public:
  std::unique_ptr<Scratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Scratch>();
    auto s = std::move(free_.back());
    free_.pop_back();
    return s;
  }
  void give_back(std::unique_ptr<Scratch> s) {
    constexpr size_t kMostBytes = 1 << 24;  // nine times as much stands beside a text
    for (const Text* t : {&s->original, &s->part, &s->words.text}) {
      if (t->bytes.capacity() > kMostBytes) return;
    }
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(s));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;
};

class Pipeline : public Tokenizer {
 public:
  explicit Pipeline(Stages stages) : s_(std::move(stages)) {
    std::vector<const AddedToken*> raw, normalized;
    std::vector<std::string> raw_contents, normalized_contents;
    special_.resize(static_cast<size_t>(s_.vocabulary.size()), false);
    for (const AddedToken& t : s_.added) {
      if (t.special) special_[static_cast<size_t>(t.id)] = true;
      std::string content = t.content;
      if (t.normalized && s_.normalizer != nullptr) {
        Text text;
        read_text(content, text);
        s_.normalizer->run(text);
        content = text.bytes;
      }
      (t.normalized ? normalized : raw).push_back(&t);
      (t.normalized ? normalized_contents : raw_contents).push_back(std::move(content));
    }
    raw_ = AddedTokens(raw, raw_contents);
    normalized_ = AddedTokens(normalized, normalized_contents);
  }

  Encoding encode(std::string_view text, bool add_special, int64_t max_length) const override {
    Encoding e = tokens_of(text);
    const auto& pieces = add_special ? s_.postprocessor.single : kPlain;
    if (max_length > 0) {
      truncate(e, std::max<int64_t>(0, max_length - PostProcessor::specials(pieces)),
               s_.settings.truncation.side);
    }
    s_.postprocessor.trim(e);
    return s_.postprocessor.assemble(pieces, std::move(e), nullptr, s_.vocabulary);
  }

  Encoding encode_pair(std::string_view first, std::string_view second,
                       int64_t max_length) const override {
    Encoding a = tokens_of(first), b = tokens_of(second);
    const auto& pieces = s_.postprocessor.pair;
    if (max_length > 0) {
      truncate(a, b, std::max<int64_t>(0, max_length - PostProcessor::specials(pieces)),
               s_.settings.truncation);
    }
    s_.postprocessor.trim(a);
    s_.postprocessor.trim(b);
    return s_.postprocessor.assemble(pieces, std::move(a), &b, s_.vocabulary);
  }

  std::string decode(std::span<const int64_t> ids, bool skip_special) const override {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const int64_t id : ids) {
      if (id < 0 || id >= vocabulary_size()) continue;
      if (skip_special && special_[static_cast<size_t>(id)]) continue;
      tokens.push_back(s_.vocabulary.token(id));
    }
    if (s_.decoder != nullptr) s_.decoder->run(tokens);
    std::string out;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (s_.decoder == nullptr && i > 0) out += ' ';
      out += tokens[i];
    }
    return out;
  }

  int64_t vocabulary_size() const override { return s_.vocabulary.size(); }
  int64_t id_of(std::string_view token) const override { return s_.vocabulary.id_of(token); }
  const std::string& token_of(int64_t id) const override {
    static const std::string none;
    return id >= 0 && id < vocabulary_size() ? s_.vocabulary.token(id) : none;
  }
  const TokenizerSettings& settings() const override { return s_.settings; }

 private:
  static inline const std::vector<TemplatePiece> kPlain{{0, 0, 0}};

  Encoding tokens_of(std::string_view text) const {
    std::unique_ptr<Scratch> scratch = scratches_.take();
    Encoding out;
    // After an error the scratch is not given back: what it holds may be half done.
    run(text, *scratch, out);
    scratches_.give_back(std::move(scratch));
    out.special.assign(out.ids.size(), 0);
    out.type_ids.assign(out.ids.size(), 0);
    return out;
  }

  void run(std::string_view text, Scratch& s, Encoding& out) const {
    read_text(text, s.original);
    // Rather too much than to grow again and again: English has four to five bytes per token.
    const size_t expected = text.size() / 4 + 8;
    out.ids.reserve(expected);
    out.tokens.reserve(expected);
    out.offsets.reserve(expected);
    s.parts.clear();
    raw_.split(s.original.bytes, s.parts);
    for (const auto& [range, token] : s.parts) {
      if (token != nullptr) {
        push(token->id, std::string(s.original.view(range)), s.original.span(range), out);
        continue;
      }
      if (s.parts.size() == 1) {
        std::swap(s.part, s.original);
      } else {
        s.part.clear();
        s.part.append(s.original, range);
        s.part.most = s.original.most;
      }
      if (s_.normalizer != nullptr) s_.normalizer->run(s.part);
      run_normalized(s, out);
    }
  }

  // Of s.part, which is normalized and without those tokens that are found before.
  void run_normalized(Scratch& s, Encoding& out) const {
    if (normalized_.empty()) {
      std::swap(s.words.text, s.part);
      run_plain(s, out);
      return;
    }
    s.inner_parts.clear();
    normalized_.split(s.part.bytes, s.inner_parts);
    for (const auto& [range, token] : s.inner_parts) {
      if (token != nullptr) {
        push(token->id, std::string(s.part.view(range)), s.part.span(range), out);
        continue;
      }
      s.words.text.clear();
      s.words.text.append(s.part, range);
      s.words.text.most = s.part.most;
      run_plain(s, out);
    }
  }

  void run_plain(Scratch& s, Encoding& out) const {
    Words& w = s.words;
    w.words.clear();
    if (w.text.size() > 0) w.words.push_back({0, static_cast<uint32_t>(w.text.size())});
    if (s_.pretokenizer != nullptr) s_.pretokenizer->run(w);
    const int32_t verbatim = s_.model->verbatim_id();
    constexpr size_t kAhead = 4;
    for (size_t k = 0; k < w.words.size(); ++k) {
      if (k + kAhead < w.words.size()) s.cache.fetch(w.text.view(w.words[k + kAhead]));
      const Range r = w.words[k];
      const std::string_view word = w.text.view(r);
      s.pieces.clear();
      if (!s.cache.find(word, s.pieces)) {
        s_.model->cut(word, s.model, s.pieces);
        s.cache.keep(word, s.pieces.data(), s.pieces.size());
      }
      for (const Piece& p : s.pieces) {
        const Range at{r.begin + p.begin, r.begin + p.end};
        if (p.id == verbatim)
          push(p.id, std::string(w.text.view(at)), w.text.span(at), out);
        else
          push(p.id, s_.vocabulary.token(p.id), w.text.span(at), out);
      }
    }
  }

  template <typename Token>
  static void push(int64_t id, Token&& token, Span at, Encoding& e) {
    e.ids.push_back(id);
    e.tokens.emplace_back(std::forward<Token>(token));
    e.offsets.emplace_back(at.begin, at.end);
  }

  Stages s_;
  std::vector<bool> special_;  // by id
  AddedTokens raw_, normalized_;
  mutable Scratches scratches_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(Stages stages) {
  return std::make_unique<Pipeline>(std::move(stages));
}

}  // namespace graft
