#include "models/generation/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace graft {

void SamplingOptions::check() const {
  if (!(temperature >= 0 && temperature < 1e6))
    throw UsageError("the temperature should be 0 (greedy) or above but is {}", temperature);
  if (top_k < 0) throw UsageError("top-k should be 0 (all tokens) or above but is {}", top_k);
  if (!(top_p > 0 && top_p <= 1))
    throw UsageError("top-p should be above 0 and at most 1 but is {}", top_p);
  if (!(repetition_penalty > 0))
    throw UsageError("the repetition penalty should be above 0 but is {}", repetition_penalty);
}

int64_t argmax(std::span<const float> logits) {
  return std::ranges::max_element(logits) - logits.begin();
}

void penalize_repetition(std::span<float> logits, std::span<const int64_t> text, double penalty) {
  if (penalty == 1) return;
  // Once each, however often a token stands there.
  std::vector<int64_t> seen(text.begin(), text.end());
  std::ranges::sort(seen);
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const int64_t id : seen) {
    float& x = logits[static_cast<size_t>(id)];
    x = static_cast<float>(x < 0 ? x * penalty : x / penalty);
  }
}

Sampler::Sampler(const SamplingOptions& options) : options_(options) { options_.check(); }

int64_t Sampler::next(std::span<float> logits, std::span<const int64_t> text, int64_t row,
                      int64_t step) {
  penalize_repetition(logits, text, options_.repetition_penalty);
  if (options_.temperature == 0) return argmax(logits);
  const auto vocab = static_cast<int64_t>(logits.size());
  const int64_t k = options_.top_k == 0 ? vocab : std::min(options_.top_k, vocab);
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  // Ties stand in the order of the vocabulary, so that the choice is a function of the logits.
  const auto better = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (k < vocab || options_.top_p < 1) {
    std::partial_sort(order_.begin(), order_.begin() + k, order_.end(), better);
  }
  order_.resize(static_cast<size_t>(k));
  const float best = logits[static_cast<size_t>(
      k < vocab || options_.top_p < 1 ? order_[0] : static_cast<int32_t>(argmax(logits)))];
  weights_.clear();
  double total = 0;
  for (const int32_t id : order_) {
    weights_.push_back(std::exp(
        (static_cast<double>(logits[static_cast<size_t>(id)]) - static_cast<double>(best)) /
        options_.temperature));
    total += weights_.back();
  }
  if (options_.top_p < 1) {
    double sum = 0;
    size_t kept = 0;
    while (kept < weights_.size() && (kept == 0 || sum < options_.top_p * total))
      sum += weights_[kept++];
    weights_.resize(kept);
    total = sum;
  }
  double at =
      total * RandomStream(options_.seed, static_cast<uint64_t>(row), static_cast<uint64_t>(step))
                  .uniform(0);
  for (size_t i = 0; i + 1 < weights_.size(); ++i) {
    if (at < weights_[i]) return order_[i];
    at -= weights_[i];
  }
  return order_[weights_.size() - 1];
}

}  // namespace graft
