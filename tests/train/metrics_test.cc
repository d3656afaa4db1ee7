// Metrics against numbers worked out by hand.
#include "train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace graft {
namespace {

TEST(Metrics, Classification) {
  const std::vector<int64_t> wanted = {0, 0, 1, 1, 2}, predicted = {0, 1, 1, 1, 0};
  EXPECT_DOUBLE_EQ(accuracy(predicted, wanted), 0.6);
  EXPECT_NEAR(macro_f1(predicted, wanted, 3), (0.5 + 0.8 + 0) / 3, 1e-12);
  // (hits n - sum rows columns) / sqrt((n^2 - sum rows^2)(n^2 - sum columns^2)) = (15 - 10) /
  // sqrt(16 * 12)
  EXPECT_NEAR(matthews(predicted, wanted, 3), 5 / std::sqrt(16.0 * 12.0), 1e-12);
}

TEST(Metrics, Correlation) {
  const std::vector<double> x = {1, 2, 3, 4}, y = {1, 4, 9, 16}, tied = {1, 2, 2, 3};
  EXPECT_NEAR(pearson(x, y), 0.9843740386976972, 1e-12);
  EXPECT_DOUBLE_EQ(spearman(x, y), 1);
  EXPECT_NEAR(spearman(x, tied), 0.9486832980505138, 1e-12);
}

TEST(Metrics, DegenerateInputGivesZero) {
  const std::vector<double> constant = {2, 2}, x = {1, 2};
  EXPECT_EQ(pearson(constant, x), 0);
  EXPECT_EQ(accuracy({}, {}), 0);
  const std::vector<int64_t> same = {1, 1};
  EXPECT_EQ(matthews(same, same, 2), 0);
}

}  // namespace
}  // namespace graft
