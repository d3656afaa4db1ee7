// The next token from a row of logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace graft {

// As in transformers: penalty, temperature, top-k, top-p, in this order.
struct SamplingOptions {
  double temperature = 0;  // 0: the best token, always
  int64_t top_k = 0;       // sample from the k best; 0: from all
  double top_p = 1;        // from the fewest tokens whose probabilities reach this sum
  // Divides positive and multiplies negative logits of tokens that the text holds already
  // (1909.05858).
  double repetition_penalty = 1;
  uint64_t seed = 0;

  void check() const;  // throws UsageError naming the option
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  // The token after `text` in row `row` at step `step`; logits [V] are changed. The choice is a
  // function of (seed, row, step) and the logits.
  int64_t next(std::span<float> logits, std::span<const int64_t> text, int64_t row, int64_t step);

  const SamplingOptions& options() const { return options_; }

 private:
  SamplingOptions options_;
  std::vector<int32_t> order_;  // scratch
  std::vector<double> weights_;
};

// The first of the largest.
int64_t argmax(std::span<const float> logits);
void penalize_repetition(std::span<float> logits, std::span<const int64_t> text, double penalty);

}  // namespace graft
