// What must hold of every tokenizer and text.
#pragma once

#include <string_view>

#include "models/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace graft::fuzz {

inline void expect_whole(const Encoding& e, const Tokenizer& t, int64_t max_length) {
  const size_t n = e.ids.size();
  expect(e.tokens.size() == n && e.offsets.size() == n && e.type_ids.size() == n &&
             e.special.size() == n,
         "all parts of an encoding have one length");
  expect(max_length == 0 || static_cast<int64_t>(n) <= max_length || max_length < 4,
         "an encoding is no longer than asked for");
  for (size_t i = 0; i < n; ++i) {
    expect(e.ids[i] >= 0 && e.ids[i] < t.vocabulary_size(), "ids are of the vocabulary");
    expect(0 <= e.offsets[i].first && e.offsets[i].first <= e.offsets[i].second,
           "offsets are in order");
  }
}

// One text, and its two halves as a pair.
inline void encode_all(const Tokenizer& t, std::string_view text, int64_t max_length) {
  const Encoding whole = t.encode(text);
  expect_whole(whole, t, 0);
  StreamDecoder stream(t);
  for (const int64_t id : whole.ids) static_cast<void>(stream.push(id));
  static_cast<void>(stream.finish());
  static_cast<void>(t.decode(whole.ids));
  static_cast<void>(t.decode(whole.ids, false));
  expect_whole(t.encode(text, false, max_length), t, max_length);
  const size_t half = text.size() / 2;
  expect_whole(t.encode_pair(text.substr(0, half), text.substr(half), max_length), t, 0);
}

}  // namespace graft::fuzz
