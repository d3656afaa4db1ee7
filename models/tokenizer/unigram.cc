// Unigram: of all ways to cut a text into pieces of the vocabulary the one with the highest sum of
// scores (Kudo, 2018), by Viterbi's algorithm.
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "models/tokenizer/model.h"
#include "models/tokenizer/trie.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

class Unigram : public SubwordModel {
 public:
  Unigram(const Vocabulary& v, std::vector<double> scores, const UnigramOptions& o,
          const std::string& source)
      : scores_(std::move(scores)),
        unknown_(o.unknown),
        single_precision_(o.single_precision),
        source_(source) {
    constexpr size_t kLongest = 1000;  // every character may begin a walk of this length
    constexpr double kPenalty = 10;    // of an unknown character, below the least score
    double least = 0;
    bool first = true;
    std::vector<std::pair<std::string_view, int32_t>> keys;
    for (size_t id = 0; id < scores_.size(); ++id) {
      const std::string& token = v.token(static_cast<int64_t>(id));
      if (token.size() > kLongest) {
        throw FileError("{}: the token with id {} has {} bytes; expected at most {}", source, id,
                        token.size(), kLongest);
      }
      if (!std::isfinite(scores_[id])) continue;
      keys.emplace_back(token, static_cast<int32_t>(id));
      least = std::exchange(first, false) ? scores_[id] : std::min(least, scores_[id]);
    }
    trie_ = Trie(std::move(keys));
    unknown_score_ = least - kPenalty;
    if (o.byte_fallback) bytes_ = byte_tokens(v);
  }

  void cut(std::string_view word, ModelScratch& scratch, std::vector<Piece>& out) const override {
    best_path(word, scratch.steps);
    const size_t before = out.size();
    auto end = static_cast<uint32_t>(word.size());
    uint32_t unknown_end = 0;  // of a run of unknown characters, which are one token
    bool in_unknown = false;
    while (end > 0) {
      const Step& s = scratch.steps[end];
      if (unknown_ >= 0 && s.id == unknown_) {
        if (!in_unknown) unknown_end = end;
        in_unknown = true;
      } else {
        if (in_unknown) push_unknown(word, end, unknown_end, out);
        in_unknown = false;
        out.push_back({s.id, s.start, end});
      }
      end = s.start;
    }
    if (in_unknown) push_unknown(word, 0, unknown_end, out);
    std::reverse(out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
  }

  int32_t verbatim_id() const override { return unknown_; }

 private:
  void best_path(std::string_view word, std::vector<Step>& steps) const {
    steps.assign(word.size() + 1, Step{0, -1, 0});
    auto reach = [&](size_t end, double score, int32_t id, size_t start) {
      Step& s = steps[end];
      if (s.id >= 0 && score <= s.score) return;
      // SentencePiece rounds what it keeps, not what it compares; that settles draws.
      s = {single_precision_ ? static_cast<float>(score) : score, id, static_cast<uint32_t>(start)};
    };
    for (size_t start = 0; start < word.size();) {
      const uint32_t first = code_point(word, start).bytes;
      const double so_far = steps[start].score;
      bool has_single = false;
      Trie::Node n = trie_.start(word[start]);
      for (size_t end = start + 1; n != Trie::kNone; ++end) {
        if (const int32_t id = trie_.value(n); id >= 0) {
          reach(end, so_far + scores_[static_cast<size_t>(id)], id, start);
          has_single |= end - start == first;
        }
        if (end == word.size()) break;
        n = trie_.child(n, word[end]);
      }
      if (!has_single) {
        if (unknown_ < 0) {
          throw FileError(
              "{}: the vocabulary has no token for '{}', and the field 'unk_id' names none for "
              "unknown characters",
              source_, word.substr(start, first));
        }
        reach(start + first, so_far + unknown_score_, unknown_, start);
      }
      start += first;
    }
  }

  void push_unknown(std::string_view word, uint32_t begin, uint32_t end,
                    std::vector<Piece>& out) const {
    const std::string_view text = word.substr(begin, end - begin);
    const Trie::Node n = trie_.walk(text);
    if (n != Trie::kNone && trie_.value(n) >= 0) {
      out.push_back({trie_.value(n), begin, end});  // a token that lost to its own characters
    } else if (!bytes_.empty() && std::ranges::all_of(text, [&](char c) { return byte(c) >= 0; })) {
      for (size_t i = text.size(); i-- > 0;) out.push_back({byte(text[i]), begin, end});
    } else {
      out.push_back({unknown_, begin, end});
    }
  }

  int32_t byte(char c) const { return bytes_[static_cast<unsigned char>(c)]; }

  std::vector<double> scores_;
  int32_t unknown_;
  bool single_precision_;
  std::string source_;
  Trie trie_;
  double unknown_score_ = 0;
  std::vector<int32_t> bytes_;
};

}  // namespace

std::unique_ptr<SubwordModel> make_unigram(const Vocabulary& vocabulary, std::vector<double> scores,
                                           const UnigramOptions& options,
                                           const std::string& source) {
  return std::make_unique<Unigram>(vocabulary, std::move(scores), options, source);
}

}  // namespace graft
