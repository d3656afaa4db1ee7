// The tokens of words met before. Text repeats its words: on English nine of ten are here.
#pragma once

#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include "models/tokenizer/model.h"

namespace graft {

// Of a fixed size: each word has one slot, which it may have to leave to another. Never allocates
// after its first word.
class WordCache {
 public:
  // Appends the pieces of a word that is there.
  bool find(std::string_view word, std::vector<Piece>& out) {
    if (word.size() > kLongest) return false;
    if (slots_.empty()) slots_.resize(kSlots);
    slot_ = &slots_[hash(word) % kSlots];
    if (slot_->bytes != word.size() || std::memcmp(slot_->word, word.data(), word.size()) != 0)
      return false;
    out.insert(out.end(), slot_->pieces, slot_->pieces + slot_->count);
    return true;
  }

  // Keeps the pieces of the word that find() has just not found.
  void keep(std::string_view word, const Piece* pieces, size_t count) {
    if (word.size() > kLongest || count > kMostPieces) return;
    slot_->bytes = static_cast<uint8_t>(word.size());
    slot_->count = static_cast<uint8_t>(count);
    std::memcpy(slot_->word, word.data(), word.size());
    std::copy_n(pieces, count, slot_->pieces);
  }

 private:
  static constexpr size_t kSlots = 1 << 14, kLongest = 30, kMostPieces = 8;
  struct Slot {
    uint8_t bytes = 0, count = 0;  // no word has 0 bytes
    char word[kLongest];
    Piece pieces[kMostPieces];
  };

  static size_t hash(std::string_view word) { return std::hash<std::string_view>{}(word); }

  std::vector<Slot> slots_;
  Slot* slot_ = nullptr;
};

}  // namespace graft
