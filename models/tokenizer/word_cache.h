// The tokens of words met before. Text repeats its words: on English nine of ten are here.
#pragma once

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "models/tokenizer/model.h"

namespace graft {

// Of a fixed size: each word has one slot, which it may have to leave to another. Never allocates
// after it was made.
class WordCache {
 public:
  WordCache() : slots_(kSlots) {}

  // A word that find() will be asked for soon. The slots are more than the second cache holds, and
  // waiting for them would be a quarter of all time.
  void fetch(std::string_view word) const {
    const Slot* slot = &slots_[hash(word) % kSlots];
    __builtin_prefetch(slot);
    __builtin_prefetch(reinterpret_cast<const char*>(slot) + 64);
  }

  // Appends the pieces of a word that is there.
  bool find(std::string_view word, std::vector<Piece>& out) {
    if (word.size() > kLongest) return false;
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
  static constexpr size_t kSlots = 1 << 15, kLongest = 30, kMostPieces = 8;
  struct alignas(64) Slot {        // two cache lines
    uint8_t bytes = 0, count = 0;  // no word has 0 bytes
    char word[kLongest];
    Piece pieces[kMostPieces];
  };

  static size_t hash(std::string_view word) {
    constexpr uint64_t kMix = 0x9E3779B97F4A7C15u;
    uint64_t h = word.size();
    const char* p = word.data();
    size_t n = std::min(word.size(), kLongest);
    for (; n >= 8; n -= 8, p += 8) h = mix(h, p, 8, kMix);
    return mix(h, p, n, kMix) >> 32;
  }
  static uint64_t mix(uint64_t h, const char* p, size_t n, uint64_t by) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, p, n);
    h = (h ^ bytes) * by;
    return h ^ h >> 29;
  }

  std::vector<Slot> slots_;
  Slot* slot_ = nullptr;
};

}  // namespace graft
