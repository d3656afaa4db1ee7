// Byte-pair encoding: the characters of a word, of which the pair that was merged first in training
// is merged first (Sennrich et al., 2016).
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "core/error.h"
#include "models/tokenizer/model.h"
#include "models/tokenizer/trie.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

uint64_t pair_of(int32_t a, int32_t b) {
  return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
}

// Pair of ids -> rank of its merge, by open addressing.
class MergeTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  explicit MergeTable(size_t merges) {
    size_t size = 16;
    while (size < 2 * merges) size *= 2;
    slots_.resize(size, {kFree, kNone});
  }
  void set(uint64_t pair, uint32_t rank) { slots_[place(pair)] = {pair, rank}; }
  uint32_t find(int32_t a, int32_t b) const {
    const Slot& s = slots_[place(pair_of(a, b))];
    return s.pair == kFree ? kNone : s.rank;
  }

 private:
  static constexpr uint64_t kFree = UINT64_MAX;
  struct Slot {
    uint64_t pair;
    uint32_t rank;
  };
  size_t place(uint64_t pair) const {
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    size_t i = h & (slots_.size() - 1);
    while (slots_[i].pair != pair && slots_[i].pair != kFree) i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  std::vector<Slot> slots_;
};

struct RankedMerge {
  int32_t left, right;
  uint32_t rank;  // which merge comes first; its place in the list of results
};

class Bpe : public SubwordModel {
 public:
  Bpe(const Vocabulary& v, const std::vector<RankedMerge>& merges, std::vector<int32_t> results,
      const BpeOptions& o, const std::string& source)
      : o_(o), vocabulary_(v), table_(merges.size()), results_(std::move(results)) {
    for (const RankedMerge& m : merges) table_.set(pair_of(m.left, m.right), m.rank);
    std::vector<std::pair<std::string_view, int32_t>> frozen;
    for (const std::string& token : o_.frozen)
      frozen.emplace_back(token, v.required(token, source));
    frozen_ = Trie(std::move(frozen));
    if (!o.unknown.empty()) unknown_ = v.required(o.unknown, source);
    if (o.byte_fallback) bytes_ = byte_tokens(v);
    plain_ = o.prefix.empty() && o.suffix.empty();
    for (char32_t c = 0; c < kTabled; ++c) {
      std::string text;
      append_utf8(text, c);
      characters_[c] = v.id_of(text);
    }
  }

  void cut(std::string_view word, ModelScratch& scratch, std::vector<Piece>& out) const override {
    if (word.empty()) return;
    if (o_.ignore_merges) {
      if (const int32_t id = vocabulary_.id_of(word); id >= 0) {
        out.push_back({id, 0, static_cast<uint32_t>(word.size())});
        return;
      }
    }
    split(word, scratch.symbols);
    merge(scratch.symbols, scratch.queue);
    uint32_t at = 0;
    const auto size = static_cast<uint32_t>(word.size());
    for (const Symbol& s : scratch.symbols) {
      if (s.bytes == 0) continue;
      const uint32_t end = std::min(at + s.bytes, size);
      out.push_back({s.id, at, end});
      at = end;
    }
  }

 private:
  static void push(std::vector<Symbol>& symbols, int32_t id, uint32_t bytes) {
    const auto n = static_cast<int32_t>(symbols.size());
    if (n > 0) symbols.back().after = n;
    symbols.push_back({id, n - 1, -1, bytes});
  }

  void split(std::string_view word, std::vector<Symbol>& symbols) const {
    symbols.clear();
    uint32_t unknown = 0;  // bytes of unknown characters that are not yet a symbol
    std::string framed;    // with prefix and suffix
    for (size_t i = 0; i < word.size();) {
      const CodePoint c = code_point(word, i);
      std::string_view text = word.substr(i, c.bytes);
      int32_t id = -1;
      if (const size_t n = o_.frozen.empty() ? 0 : frozen_.longest(word.substr(i)); n > 0) {
        if (unknown > 0) push(symbols, unknown_, std::exchange(unknown, 0));
        push(symbols, vocabulary_.id_of(word.substr(i, n)), static_cast<uint32_t>(n));
        i += n;
        continue;
      }
      if (plain_) {
        id = c.code < kTabled ? characters_[c.code] : vocabulary_.id_of(text);
      } else {
        framed = i > 0 ? o_.prefix : "";
        framed += text;
        if (i + c.bytes == word.size()) framed += o_.suffix;
        text = framed;
        id = vocabulary_.id_of(text);
      }
      i += c.bytes;
      if (id >= 0) {
        if (unknown > 0) push(symbols, unknown_, std::exchange(unknown, 0));
        push(symbols, id, c.bytes);
      } else if (!bytes_.empty() &&
                 std::ranges::all_of(text, [&](char b) { return byte(b) >= 0; })) {
        for (const char b : text) push(symbols, byte(b), 1);
      } else if (unknown_ >= 0) {
        if (unknown > 0 && !o_.fuse_unknown) push(symbols, unknown_, std::exchange(unknown, 0));
        unknown += c.bytes;
      }
    }
    if (unknown > 0) push(symbols, unknown_, unknown);
  }

  // A heap of (rank, place); an entry is stale when another merge has taken one of its symbols.
  void merge(std::vector<Symbol>& symbols, std::vector<uint64_t>& queue) const {
    queue.clear();
    auto enter = [&](int32_t left, int32_t right) {
      const uint32_t rank = table_.find(symbols[static_cast<size_t>(left)].id,
                                        symbols[static_cast<size_t>(right)].id);
      if (rank == MergeTable::kNone) return false;
      queue.push_back(static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(left));
      return true;
    };
    for (int32_t k = 0; k + 1 < static_cast<int32_t>(symbols.size()); ++k) enter(k, k + 1);
    std::make_heap(queue.begin(), queue.end(), std::greater{});
    while (!queue.empty()) {
      std::pop_heap(queue.begin(), queue.end(), std::greater{});
      const uint64_t top = queue.back();
      queue.pop_back();
      const auto at = static_cast<int32_t>(top & UINT32_MAX);
      Symbol& left = symbols[static_cast<size_t>(at)];
      if (left.bytes == 0 || left.after < 0) continue;
      Symbol& right = symbols[static_cast<size_t>(left.after)];
      const int32_t result = results_[top >> 32];
      const uint32_t rank = table_.find(left.id, right.id);
      if (rank == MergeTable::kNone || results_[rank] != result) continue;
      left.id = result;
      left.bytes += right.bytes;
      left.after = right.after;
      right.bytes = 0;
      if (left.after >= 0) symbols[static_cast<size_t>(left.after)].before = at;
      if (left.before >= 0 && enter(left.before, at))
        std::push_heap(queue.begin(), queue.end(), std::greater{});
      if (left.after >= 0 && enter(at, left.after))
        std::push_heap(queue.begin(), queue.end(), std::greater{});
    }
  }

  int32_t byte(char c) const { return bytes_[static_cast<unsigned char>(c)]; }

  static constexpr char32_t kTabled = 0x400;  // the alphabet of byte-level models ends at 0x143
  BpeOptions o_;
  Vocabulary vocabulary_;
  MergeTable table_;
  std::vector<int32_t> results_;  // by rank
  std::vector<int32_t> bytes_;    // by byte
  std::array<int32_t, kTabled> characters_;
  Trie frozen_;
  int32_t unknown_ = -1;
  bool plain_ = true;
};

}  // namespace

std::unique_ptr<SubwordModel> make_bpe(const Vocabulary& vocabulary, const Merges& merges,
                                       const BpeOptions& options, const std::string& source) {
  std::vector<RankedMerge> ranked;
  std::vector<int32_t> results;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string &a = merges[i].first, &b = merges[i].second;
    auto id_of = [&](const std::string& token) {
      const int32_t id = vocabulary.id_of(token);
      if (id < 0) {
        throw FileError("{}: merge {} is of '{}' and '{}', but the vocabulary has no token '{}'",
                        source, i, a, b, token);
      }
      return id;
    };
    ranked.push_back({id_of(a), id_of(b), static_cast<uint32_t>(i)});
    results.push_back(
        id_of(a + (b.starts_with(options.prefix) ? b.substr(options.prefix.size()) : b)));
  }
  return std::make_unique<Bpe>(vocabulary, ranked, std::move(results), options, source);
}

std::unique_ptr<SubwordModel> make_scored_bpe(const Vocabulary& vocabulary,
                                              const std::vector<double>& scores,
                                              const BpeOptions& options,
                                              const std::string& source) {
  constexpr size_t kLongest = 1000;
  std::vector<int32_t> results;  // by falling score
  for (size_t id = 0; id < scores.size(); ++id) {
    if (std::isfinite(scores[id])) results.push_back(static_cast<int32_t>(id));
  }
  auto score = [&](int32_t id) { return scores[static_cast<size_t>(id)]; };
  std::stable_sort(results.begin(), results.end(),
                   [&](int32_t a, int32_t b) { return score(a) > score(b); });
  std::vector<RankedMerge> ranked;
  for (size_t rank = 0; rank < results.size(); ++rank) {
    const std::string_view piece = vocabulary.token(results[rank]);
    if (piece.size() > kLongest) {
      throw FileError("{}: a piece has {} bytes; expected at most {}", source, piece.size(),
                      kLongest);
    }
    for (size_t cut = code_point(piece, 0).bytes; cut < piece.size();
         cut += code_point(piece, cut).bytes) {
      const int32_t left = vocabulary.id_of(piece.substr(0, cut));
      const int32_t right = vocabulary.id_of(piece.substr(cut));
      if (left >= 0 && right >= 0 && std::isfinite(score(left)) && std::isfinite(score(right)))
        ranked.push_back({left, right, static_cast<uint32_t>(rank)});
    }
  }
  return std::make_unique<Bpe>(vocabulary, ranked, std::move(results), options, source);
}

}  // namespace graft
