#include "train/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace graft {
namespace {

// counts[wanted][predicted]; what is predicted as no class (-1) is one more, behind them.
std::vector<std::vector<double>> confusion(std::span<const int64_t> predicted,
                                           std::span<const int64_t> wanted, int64_t classes) {
  const auto n = static_cast<size_t>(classes);
  std::vector<std::vector<double>> counts(n + 1, std::vector<double>(n + 1, 0));
  for (size_t i = 0; i < predicted.size(); ++i) {
    const size_t as = predicted[i] < 0 ? n : static_cast<size_t>(predicted[i]);
    counts[static_cast<size_t>(wanted[i])][as] += 1;
  }
  return counts;
}

std::vector<double> ranks(std::span<const double> x) {
  std::vector<size_t> order(x.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return x[i]; });
  std::vector<double> rank(x.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    while (end < order.size() && x[order[end]] == x[order[i]]) ++end;
    for (size_t k = i; k < end; ++k) rank[order[k]] = static_cast<double>(i + end - 1) / 2;
    i = end;
  }
  return rank;
}

}  // namespace

bool lower_is_better(std::string_view metric) {
  return metric == "perplexity" || metric == "bits_per_byte";
}

bool in_percent(std::string_view metric) { return !lower_is_better(metric); }

double accuracy(std::span<const int64_t> predicted, std::span<const int64_t> wanted) {
  if (wanted.empty()) return 0;
  size_t hits = 0;
  for (size_t i = 0; i < wanted.size(); ++i) hits += predicted[i] == wanted[i];
  return static_cast<double>(hits) / static_cast<double>(wanted.size());
}

double macro_f1(std::span<const int64_t> predicted, std::span<const int64_t> wanted,
                int64_t classes) {
  const auto counts = confusion(predicted, wanted, classes);
  double sum = 0, seen = 0;
  for (size_t k = 0; k + 1 < counts.size(); ++k) {
    double row = 0, column = 0;
    for (size_t j = 0; j < counts.size(); ++j) {
      row += counts[k][j];
      column += counts[j][k];
    }
    if (row + column == 0) continue;
    seen += 1;
    sum += 2 * counts[k][k] / (row + column);
  }
  return seen > 0 ? sum / seen : 0;
}

// Gorodkin's correlation for any number of classes.
double matthews(std::span<const int64_t> predicted, std::span<const int64_t> wanted,
                int64_t classes) {
  const auto counts = confusion(predicted, wanted, classes);
  double total = 0, hits = 0, cross = 0, rows = 0, columns = 0;
  for (size_t k = 0; k < counts.size(); ++k) {
    double row = 0, column = 0;
    for (size_t j = 0; j < counts.size(); ++j) {
      row += counts[k][j];
      column += counts[j][k];
    }
    total += row;
    hits += counts[k][k];
    cross += row * column;
    rows += row * row;
    columns += column * column;
  }
  const double scale = std::sqrt((total * total - rows) * (total * total - columns));
  return scale > 0 ? (hits * total - cross) / scale : 0;
}

double pearson(std::span<const double> x, std::span<const double> y) {
  const auto n = static_cast<double>(x.size());
  if (x.empty()) return 0;
  const double mx = std::accumulate(x.begin(), x.end(), 0.0) / n,
               my = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mx) * (y[i] - my);
    xx += (x[i] - mx) * (x[i] - mx);
    yy += (y[i] - my) * (y[i] - my);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

double spearman(std::span<const double> x, std::span<const double> y) {
  return pearson(ranks(x), ranks(y));
}

}  // namespace graft
