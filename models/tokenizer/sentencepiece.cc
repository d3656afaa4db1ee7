#include "models/tokenizer/sentencepiece.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "models/tokenizer/unicode.h"

namespace graft {
namespace {

// Protocol buffers: a message is a list of fields, each a number, a kind and a value.
class Message {
 public:
  Message(std::string_view bytes, const std::string& source) : rest_(bytes), source_(source) {}

  bool next() {
    if (rest_.empty()) return false;
    const uint64_t key = varint();
    field_ = key >> 3;
    switch (key & 7) {
      case 0:
        number_ = varint();
        break;
      case 1:
        number_ = fixed(8);
        break;
      case 2:
        bytes_ = take(varint());
        break;
      case 5:
        number_ = fixed(4);
        break;
      default:
        throw damaged();
    }
    kind_ = key & 7;
    return true;
  }

  uint64_t field() const { return field_; }
  std::string_view bytes() const { return kind_ == 2 ? bytes_ : throw damaged(); }
  bool flag() const { return integer() != 0; }
  int32_t integer() const { return kind_ == 0 ? static_cast<int32_t>(number_) : throw damaged(); }
  float real() const {
    return kind_ == 5 ? std::bit_cast<float>(static_cast<uint32_t>(number_)) : throw damaged();
  }

 private:
  FileError damaged() const {
    return FileError("{}: not a SentencePiece model, or damaged, {} bytes before its end", source_,
                     rest_.size());
  }
  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto b = static_cast<unsigned char>(take(1)[0]);
      v |= static_cast<uint64_t>(b & 0x7F) << shift;
      if (b < 0x80) return v;
    }
    throw damaged();
  }
  uint64_t fixed(size_t bytes) {
    const std::string_view b = take(bytes);
    uint64_t v = 0;
    for (size_t i = bytes; i-- > 0;) v = v << 8 | static_cast<unsigned char>(b[i]);
    return v;
  }
  std::string_view take(uint64_t n) {
    if (n > rest_.size()) throw damaged();
    const std::string_view out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return out;
  }

  std::string_view rest_, bytes_;
  const std::string& source_;
  uint64_t field_ = 0, number_ = 0, kind_ = 0;
};

struct Model {
  enum Kind { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;
    double score = 0;
    int32_t kind = normal;
  };
  std::vector<Piece> pieces;
  int32_t type = 1;  // 1: Unigram, 2: BPE
  int32_t unk = 0, bos = 1, eos = 2, pad = -1;
  bool byte_fallback = false, space_behind = false, escape_spaces = true;
  SentencePieceNormalizerOptions normalizer;
};

Model::Piece read_piece(std::string_view bytes, const std::string& source) {
  Model::Piece p;
  for (Message m(bytes, source); m.next();) {
    if (m.field() == 1) p.text = m.bytes();
    if (m.field() == 2) p.score = m.real();
    if (m.field() == 3) p.kind = m.integer();
  }
  if (p.text.empty() || !is_utf8(p.text) || !std::isfinite(p.score)) {
    throw FileError("{}: a piece is empty, not UTF-8, or its score is not finite", source);
  }
  return p;
}

Model read_model_proto(std::string_view bytes, const std::string& source) {
  Model model;
  for (Message m(bytes, source); m.next();) {
    if (m.field() == 1) model.pieces.push_back(read_piece(m.bytes(), source));
    if (m.field() == 2) {  // how it was trained
      for (Message t(m.bytes(), source); t.next();) {
        if (t.field() == 3) model.type = t.integer();
        if (t.field() == 24) model.space_behind = t.flag();
        if (t.field() == 35) model.byte_fallback = t.flag();
        if (t.field() == 40) model.unk = t.integer();
        if (t.field() == 41) model.bos = t.integer();
        if (t.field() == 42) model.eos = t.integer();
        if (t.field() == 43) model.pad = t.integer();
      }
    }
    if (m.field() == 3) {  // how it normalizes
      for (Message n(m.bytes(), source); n.next();) {
        if (n.field() == 2) model.normalizer.map = n.bytes();
        if (n.field() == 3) model.normalizer.dummy_prefix = n.flag();
        if (n.field() == 4) model.normalizer.remove_extra_spaces = n.flag();
        if (n.field() == 5) model.escape_spaces = n.flag();
      }
    }
  }
  if (model.pieces.empty()) throw FileError("{}: the model has no pieces", source);
  if (model.type != 1 && model.type != 2) {
    throw UsageError(
        "{}: SentencePiece's model type {} is not known; known: 1, Unigram, and 2, BPE", source,
        model.type);
  }
  if (model.space_behind || !model.escape_spaces) {
    throw UsageError("{}: models with white space behind words, or as it is, are not known",
                     source);
  }
  return model;
}

Json decoder_of(const Model& model) {
  Json parts =
      Json::array({{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}});
  if (model.normalizer.dummy_prefix)
    parts.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", parts}};
}

}  // namespace

Stages read_sentencepiece(std::string_view bytes, const std::string& source) {
  Model model = read_model_proto(bytes, source);
  Stages s;
  std::vector<double> scores;
  double highest = -std::numeric_limits<double>::infinity();
  for (const Model::Piece& p : model.pieces) {
    if (p.kind == Model::normal) highest = std::max(highest, p.score);
  }
  BpeOptions bpe;
  for (const Model::Piece& p : model.pieces) {
    if (s.vocabulary.id_of(p.text) >= 0)
      throw FileError("{}: the piece '{}' stands twice", source, p.text);
    const int32_t id = s.vocabulary.append(p.text);
    scores.push_back(p.kind == Model::normal ? p.score : -std::numeric_limits<double>::infinity());
    if (p.kind == Model::unknown || p.kind == Model::control)
      s.added.push_back({.content = p.text, .id = id, .special = true});
    if (p.kind == Model::user_defined) {
      model.normalizer.user_defined.push_back(p.text);
      bpe.frozen.push_back(p.text);
      // Better than any pieces of the same text (unigram_model.cc).
      if (model.type == 1 && std::isfinite(highest))
        scores.back() = static_cast<double>(p.text.size()) * highest - 0.1;
    }
  }
  const auto size = static_cast<int32_t>(model.pieces.size());
  if (model.unk < 0 || model.unk >= size ||
      model.pieces[static_cast<size_t>(model.unk)].kind != Model::unknown) {
    throw FileError("{}: the piece {} should be the unknown one; there are {} pieces", source,
                    model.unk, size);
  }
  if (model.type == 1) {
    s.model = make_unigram(
        s.vocabulary, std::move(scores),
        {.unknown = model.unk, .byte_fallback = model.byte_fallback, .single_precision = true},
        source);
  } else {
    bpe.unknown = s.vocabulary.token(model.unk);
    bpe.fuse_unknown = true;
    bpe.byte_fallback = model.byte_fallback;
    s.model = make_scored_bpe(s.vocabulary, scores, bpe, source);
  }
  s.decoder = read_decoder(decoder_of(model), source);
  s.normalizer = make_sentencepiece_normalizer(std::move(model.normalizer), source);
  auto known = [&](int32_t id) { return id >= 0 && id < size ? id : -1; };
  s.settings.special = {
      .pad = known(model.pad), .bos = known(model.bos), .eos = known(model.eos), .unk = model.unk};
  return s;
}

}  // namespace graft
