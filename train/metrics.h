// Quality of predictions. Degenerate input (nothing to compare, a constant where a correlation is
// asked for) gives 0.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace graft {

// Whether a metric, by its name, is better where it is lower; and whether it is a fraction that is
// shown in percent.
bool lower_is_better(std::string_view metric);
bool in_percent(std::string_view metric);

// A prediction of -1 is none of the classes.
double accuracy(std::span<const int64_t> predicted, std::span<const int64_t> wanted);
double macro_f1(std::span<const int64_t> predicted, std::span<const int64_t> wanted,
                int64_t classes);
double matthews(std::span<const int64_t> predicted, std::span<const int64_t> wanted,
                int64_t classes);
double pearson(std::span<const double> x, std::span<const double> y);
double spearman(std::span<const double> x,
                std::span<const double> y);  // ties get their average rank

}  // namespace graft
