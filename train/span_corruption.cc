#include "train/span_corruption.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/random.h"
#include "train/language_task.h"

namespace graft {
namespace {

constexpr double kDensity = 0.15, kSpan = 3;

// How a stretch of so many tokens is cut.
struct Cut {
  int64_t noise, spans;

  explicit Cut(int64_t tokens) {
    noise = std::clamp<int64_t>(std::llround(static_cast<double>(tokens) * kDensity), 1,
                                std::max<int64_t>(tokens - 1, 1));
    spans = std::clamp<int64_t>(std::llround(static_cast<double>(noise) / kSpan), 1,
                                std::max<int64_t>(std::min(noise, tokens - noise), 1));
  }
};

// The longest stretch whose remains, sentinels and end token are at most `length` tokens.
int64_t stretch_for(int64_t length) {
  int64_t tokens = 2;
  for (;; ++tokens) {
    const Cut cut(tokens + 1);
    if (tokens + 1 - cut.noise + cut.spans + 1 > length) return tokens;
  }
}

// `total` as a sum of `parts` positive numbers, every such sum being equally likely.
std::vector<int64_t> random_parts(int64_t total, int64_t parts, const RandomStream& random,
                                  uint64_t& draws) {
  // A walk over the places between units: each is a border with the chance that leaves enough.
  std::vector<int64_t> sizes{1};
  int64_t borders = parts - 1;
  for (int64_t places = total - 1; places > 0; --places) {
    const auto turn = static_cast<int64_t>(random.bits(draws++) % static_cast<uint64_t>(places));
    if (turn < borders) {
      sizes.push_back(0);
      --borders;
    }
    ++sizes.back();
  }
  return sizes;
}

std::vector<int64_t> sentinels_of(const Tokenizer& tokenizer, int64_t count) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    const std::string token = fmt::format("<extra_id_{}>", i);
    ids.push_back(tokenizer.id_of(token));
    if (ids.back() >= 0) continue;
    throw UsageError(
        "a model with two stacks learns from running text by filling in what was cut out, which "
        "takes {} sentinel tokens for rows of this length, and the tokenizer has no {}; see graft "
        "train-tokenizer --sentinels, or a smaller --max-length",
        count, token);
  }
  return ids;
}

}  // namespace

std::vector<Example> corrupted_rows(std::span<const std::string_view> texts,
                                    const Tokenizer& tokenizer, int64_t length) {
  const TextTokens all = joined(texts, tokenizer);
  const int64_t stretch = stretch_for(length), end = end_token(tokenizer),
                count = static_cast<int64_t>(all.ids.size());
  const std::vector<int64_t> sentinels = sentinels_of(tokenizer, Cut(stretch).spans);
  std::vector<Example> rows;
  for (int64_t at = 0; at + 1 < count; at += stretch) {
    const int64_t tokens = std::min(stretch, count - at);
    const Cut cut(tokens);
    const RandomStream random(0, rows.size());
    uint64_t draws = 0;
    const auto kept = random_parts(tokens - cut.noise, cut.spans, random, draws);
    const auto gone = random_parts(cut.noise, cut.spans, random, draws);
    Example x;
    x.id = fmt::format("{}", rows.size());
    auto from = all.ids.begin() + at;
    auto bytes = all.bytes.begin() + at;
    for (size_t s = 0; s < kept.size(); ++s) {
      x.ids.insert(x.ids.end(), from, from + kept[s]);
      x.ids.push_back(sentinels[s]);
      from += kept[s];
      bytes += kept[s];
      x.next.push_back(sentinels[s]);
      x.next.insert(x.next.end(), from, from + gone[s]);
      x.bytes = std::accumulate(bytes, bytes + gone[s], x.bytes);
      from += gone[s];
      bytes += gone[s];
    }
    if (end >= 0) {
      x.ids.push_back(end);
      x.next.push_back(end);
    }
    rows.push_back(std::move(x));
  }
  return rows;
}

}  // namespace graft
