// The loss of a language model's head: how logits are cut into chunks, and what a row of them comes
// to.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attrs.h"

namespace graft {

// Logits that are there at once. Large enough for products at full speed, small enough to stay in
// the last cache.
inline constexpr int64_t kHeadChunkBytes = int64_t{4} << 20;

// Rows and classes cut as evenly as can be. The weight is read once for each group of rows.
struct HeadChunks {
  static constexpr int64_t kRows = 1024, kUnit = 32;  // classes of a packed panel
  struct Range {
    int64_t begin, end;
    int64_t size() const { return end - begin; }
  };
  int64_t rows, classes, groups, chunks;

  HeadChunks(int64_t n, int64_t v) : rows(n), classes(v) {
    groups = (n + kRows - 1) / kRows;
    const auto floats = static_cast<int64_t>(kHeadChunkBytes / sizeof(float));
    // Two units at least: a last chunk of a few classes would be summed in another order.
    const int64_t most =
        std::max(2 * kUnit, floats / std::max<int64_t>(1, most_rows()) / kUnit * kUnit);
    chunks = (v + most - 1) / most;
  }
  Range group(int64_t i) const { return {rows * i / groups, rows * (i + 1) / groups}; }
  Range chunk(int64_t i) const {
    const int64_t units = (classes + kUnit - 1) / kUnit;
    return {units * i / chunks * kUnit, std::min(classes, units * (i + 1) / chunks * kUnit)};
  }
  int64_t most_rows() const { return groups == 0 ? 0 : (rows + groups - 1) / groups; }
  int64_t most_classes() const {
    const int64_t units = (classes + kUnit - 1) / kUnit;
    return chunks == 0 ? 0 : std::min(classes, (units + chunks - 1) / chunks * kUnit);
  }
};

// -(1 - s) log p[target] - s mean_k log p[k]. The maximum and the logarithm are never added: logits
// may be large.
inline double HeadRowLoss(const HeadLossAttrs& a, double top, double log_sum, double target,
                          double mean) {
  const double s = a.label_smoothing;
  return log_sum - (1 - s) * (target - top) - (s > 0 ? s * (mean - top) : 0);
}

}  // namespace graft
