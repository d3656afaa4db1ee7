// The stage that cuts a word into tokens of the vocabulary.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "models/tokenizer/vocabulary.h"

namespace graft {

struct Piece {
  int32_t id;
  uint32_t begin, end;  // bytes of the word
};

struct Symbol {  // of a word that BPE is merging; a linked list
  int32_t id;
  int32_t before, after;  // -1: none
  uint32_t bytes;         // 0: it is part of the symbol before it
};

struct Step {  // of Unigram's best path: how it comes to this byte
  double score;
  int32_t id;      // -1: it does not
  uint32_t start;  // of its last piece
};

// Memory that models use again from word to word.
struct ModelScratch {
  std::vector<Symbol> symbols;
  std::vector<uint64_t> queue;
  std::vector<Step> steps;
};

class SubwordModel {
 public:
  virtual ~SubwordModel() = default;
  // Appends the tokens of a word.
  virtual void cut(std::string_view word, ModelScratch& scratch, std::vector<Piece>& out) const = 0;
  // The id whose token reads as the text that it stands for; -1: none does.
  virtual int32_t verbatim_id() const { return -1; }
};

// The field `model` of a tokenizer.json: BPE, Unigram, WordLevel or WordPiece, and its vocabulary.
std::unique_ptr<SubwordModel> read_model(const Json& j, const std::string& source,
                                         Vocabulary& vocabulary);

struct WordPieceOptions {
  std::string unknown = "[UNK]", prefix = "##";
  int64_t max_chars = 100;  // longer words are unknown
};
std::unique_ptr<SubwordModel> make_wordpiece(const Vocabulary& vocabulary,
                                             const WordPieceOptions& options,
                                             const std::string& source);
std::unique_ptr<SubwordModel> make_wordlevel(const Vocabulary& vocabulary,
                                             const std::string& unknown, const std::string& source);

struct UnigramOptions {
  int32_t unknown = -1;  // -1: none, and texts that need it are refused
  bool byte_fallback = false;
  bool single_precision = false;  // sums of scores as SentencePiece has them
};
// `scores` by id; an infinite one: a piece that no text becomes.
std::unique_ptr<SubwordModel> make_unigram(const Vocabulary& vocabulary, std::vector<double> scores,
                                           const UnigramOptions& options,
                                           const std::string& source);

struct BpeOptions {
  std::string unknown;  // empty: characters that are not in the vocabulary vanish
  std::string prefix;   // of all symbols of a word but the first
  std::string suffix;   // of the last symbol of a word
  bool fuse_unknown = false, byte_fallback = false;
  bool ignore_merges = false;       // a word that is a token is that token
  std::vector<std::string> frozen;  // tokens that are found first and never merged
};
using Merges = std::vector<std::pair<std::string, std::string>>;
std::unique_ptr<SubwordModel> make_bpe(const Vocabulary& vocabulary, const Merges& merges,
                                       const BpeOptions& options, const std::string& source);

// SentencePiece's: two symbols that make a piece are merged, that with the highest score first. An
// infinite score: a piece that no text becomes.
std::unique_ptr<SubwordModel> make_scored_bpe(const Vocabulary& vocabulary,
                                              const std::vector<double>& scores,
                                              const BpeOptions& options, const std::string& source);

// The ids of "<0x00>" to "<0xFF>"; -1 where there is none.
std::vector<int32_t> byte_tokens(const Vocabulary& vocabulary);

}  // namespace graft
