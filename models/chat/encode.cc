// Pieces of a conversation as tokens.
#include <algorithm>

#include "models/chat/chat_template.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

// Pieces one after another, with places in characters, as a tokenizer counts them.
struct Laid {
  struct Piece {
    int64_t begin, end;
    ChatAuthor author;
  };
  std::string text;
  std::vector<Piece> pieces;
  std::vector<size_t> starts;  // of each character in bytes, and the end

  explicit Laid(const std::vector<ChatPiece>& from) {
    text = text_of(from);
    size_t at = 0, end = 0;
    for (const ChatPiece& p : from) {
      const auto begin = static_cast<int64_t>(starts.size());
      end += p.text.size();
      for (; at < end; at += code_point(text, at).bytes) starts.push_back(at);
      pieces.push_back({begin, static_cast<int64_t>(starts.size()), p.author});
    }
    starts.push_back(text.size());
  }

  int64_t size() const { return static_cast<int64_t>(starts.size()) - 1; }
  size_t byte(int64_t character) const { return starts[static_cast<size_t>(character)]; }
  std::string_view part(int64_t begin, int64_t end) const {
    return std::string_view(text).substr(byte(begin), byte(end) - byte(begin));
  }
};

// The text in parts that begin at the places `cuts`.
Encoding encode_parts(const Laid& laid, const std::vector<int64_t>& cuts, const Tokenizer& t) {
  Encoding all;
  for (size_t i = 0; i < cuts.size(); ++i) {
    const int64_t end = i + 1 < cuts.size() ? cuts[i + 1] : laid.size();
    const Encoding e = t.encode(laid.part(cuts[i], end), false);
    all.ids.insert(all.ids.end(), e.ids.begin(), e.ids.end());
    for (const auto& [from, to] : e.offsets) all.offsets.emplace_back(from + cuts[i], to + cuts[i]);
  }
  return all;
}

// Where answers begin inside of a token.
std::vector<int64_t> crossed(const Laid& laid, const Encoding& e) {
  std::vector<int64_t> places;
  size_t token = 0;
  for (const Laid::Piece& p : laid.pieces) {
    if (p.author != ChatAuthor::assistant) continue;
    while (token < e.offsets.size() && e.offsets[token].second <= p.begin) ++token;
    if (token < e.offsets.size() && e.offsets[token].first < p.begin) places.push_back(p.begin);
  }
  return places;
}

}  // namespace

ChatEncoding encode_chat(const std::vector<ChatPiece>& pieces, const Tokenizer& tokenizer) {
  const Laid laid(pieces);
  std::vector<int64_t> cuts = {0};
  Encoding e = encode_parts(laid, cuts, tokenizer);
  if (const std::vector<int64_t> places = crossed(laid, e); !places.empty()) {
    cuts.insert(cuts.end(), places.begin(), places.end());
    e = encode_parts(laid, cuts, tokenizer);
  }
  ChatEncoding out;
  out.ids = std::move(e.ids);
  size_t piece = 0;
  int64_t done = 0;  // characters; several tokens may stand for one
  for (const auto& [begin, end] : e.offsets) {
    while (piece + 1 < laid.pieces.size() && laid.pieces[piece].end <= begin) ++piece;
    const Laid::Piece& p = laid.pieces[piece];
    out.authors.push_back(p.author);
    // Characters that no token stands for are counted with the token behind them.
    const int64_t from = std::max(done, p.begin), to = std::min(end, p.end);
    const bool counts = p.author == ChatAuthor::assistant && to > from;
    out.bytes.push_back(counts ? static_cast<int64_t>(laid.byte(to) - laid.byte(from)) : 0);
    done = std::max(done, end);
  }
  return out;
}

}  // namespace graft
