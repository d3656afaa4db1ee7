#include "train/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace graft {
namespace {

constexpr double kWidth = 620, kHeight = 380, kLeft = 64, kRight = 24, kTop = 14, kBottom = 48;
constexpr double kLetter = 6.2, kLine = 12;  // of a label, about

// 1, 2 or 5 times a power of ten, three to eight of them.
std::vector<double> round_ticks(double low, double high) {
  const double raw = (high - low) / 8, power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (double s : {5.0, 2.0, 1.0}) {
    if (s * power >= raw) step = s * power;
  }
  std::vector<double> ticks;
  for (double t = std::ceil(low / step) * step; t <= high + 1e-9 * step; t += step) {
    ticks.push_back(std::fabs(t) < 1e-9 * step ? 0 : t);
  }
  return ticks;
}

std::string short_number(double x) {
  if (x >= 1e6) return fmt::format("{:.3g}M", x / 1e6);
  if (x >= 1e4) return fmt::format("{:.3g}k", x / 1e3);
  return fmt::format("{:.4g}", x);
}

struct Box {
  double left, top, right, bottom;
  double overlap(const Box& o) const {
    const double w = std::min(right, o.right) - std::max(left, o.left);
    const double h = std::min(bottom, o.bottom) - std::max(top, o.top);
    return w > 0 && h > 0 ? w * h : 0;
  }
};

}  // namespace

std::string escape_html(const std::string& text) {
  std::string s;
  for (char c : text) {
    switch (c) {
      case '&':
        s += "&amp;";
        break;
      case '<':
        s += "&lt;";
        break;
      case '>':
        s += "&gt;";
        break;
      case '\'':
        s += "&#39;";
        break;
      case '"':
        s += "&quot;";
        break;
      default:
        s += c;
    }
  }
  return s;
}

Plot::Plot(std::string title, std::string x_label, std::string y_label, Scale x_scale)
    : title_(std::move(title)),
      x_label_(std::move(x_label)),
      y_label_(std::move(y_label)),
      x_scale_(x_scale) {}

void Plot::add(size_t id, const std::string& name, const std::string& color,
               std::vector<std::pair<double, double>> points) {
  std::erase_if(points, [](const auto& p) { return !std::isfinite(p.first + p.second); });
  if (points.empty()) return;
  for (auto& [x, y] : points) {
    if (x_scale_ == Scale::log) x = std::log10(1 + x);
  }
  series_.push_back({id, name, color, std::move(points)});
}

Plot::Range Plot::range(bool of_y) const {
  Range r{INFINITY, -INFINITY};
  for (const Series& s : series_) {
    for (const auto& [x, y] : s.points) {
      r.low = std::min(r.low, of_y ? y : x);
      r.high = std::max(r.high, of_y ? y : x);
    }
  }
  if (series_.empty()) r = {0, 1};
  const double room = r.high > r.low ? 0.04 * (r.high - r.low) : std::max(1e-3, 0.1 * r.high);
  return {r.low >= 0 ? std::max(0.0, r.low - room) : r.low - room, r.high + room};
}

double Plot::px(double x, Range r) const {
  return kLeft + (kWidth - kLeft - kRight) * (x - r.low) / (r.high - r.low);
}
double Plot::py(double y, Range r) const {
  return kHeight - kBottom - (kHeight - kBottom - kTop) * (y - r.low) / (r.high - r.low);
}

std::string Plot::axes(Range x, Range y) const {
  std::string s;
  for (double t : round_ticks(y.low, y.high)) {
    s += fmt::format("<path class='grid' d='M{} {:.1f}H{}'/>", kLeft, py(t, y), kWidth - kRight);
    s += fmt::format("<text x='{}' y='{:.1f}' text-anchor='end'>{}</text>", kLeft - 6, py(t, y) + 4,
                     short_number(t));
  }
  std::vector<std::pair<double, double>> ticks;  // place, number
  if (x_scale_ == Scale::linear) {
    for (double t : round_ticks(x.low, x.high)) ticks.emplace_back(t, t);
  } else {
    if (x.low <= 0) ticks.emplace_back(0, 0);
    for (double n = 10; std::log10(1 + n) <= x.high; n *= 10) {
      if (std::log10(1 + n) >= x.low) ticks.emplace_back(std::log10(1 + n), n);
    }
  }
  for (const auto& [at, n] : ticks) {
    s += fmt::format("<path class='grid' d='M{:.1f} {}V{}'/>", px(at, x), kTop, kHeight - kBottom);
    s += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", px(at, x),
                     kHeight - kBottom + 16, short_number(n));
  }
  s += fmt::format("<text x='{}' y='{}' text-anchor='middle'>{}</text>",
                   (kLeft + kWidth - kRight) / 2, kHeight - 10, escape_html(x_label_));
  return s + fmt::format(
                 "<text x='14' y='{0}' text-anchor='middle' transform='rotate(-90 14 {0})'>{1}"
                 "</text>",
                 (kTop + kHeight - kBottom) / 2, escape_html(y_label_));
}

// Each label goes where it hides least of the dots and of the labels before it.
std::string Plot::dots(Range x, Range y) const {
  std::vector<Box> taken;
  for (const Series& s : series_) {
    if (s.points.size() > 1) continue;
    const double cx = px(s.points[0].first, x), cy = py(s.points[0].second, y);
    taken.push_back({cx - 5, cy - 5, cx + 5, cy + 5});
  }
  std::string text;
  for (const Series& s : series_) {
    if (s.points.size() > 1) continue;
    const double cx = px(s.points[0].first, x), cy = py(s.points[0].second, y);
    const double w = kLetter * static_cast<double>(s.name.size());
    Box best{};
    double least = INFINITY;
    for (double dy : {0.0, -9.0, 9.0, -18.0, 18.0, -27.0, 27.0}) {
      for (double left : {cx + 8, cx - 8 - w, cx - w / 2}) {
        if (left == cx - w / 2 && dy == 0) continue;
        const Box b{left, cy + dy - kLine / 2, left + w, cy + dy + kLine / 2};
        double cost = std::fabs(dy) * 0.3;
        for (const Box& t : taken) cost += b.overlap(t);
        cost += 40 * (std::max(0.0, kLeft - b.left) + std::max(0.0, b.right - kWidth) +
                      std::max(0.0, b.bottom - (kHeight - kBottom)) + std::max(0.0, kTop - b.top));
        if (cost < least) least = cost, best = b;
      }
    }
    taken.push_back(best);
    text += fmt::format(
        "<g data-m='{}'><circle cx='{:.1f}' cy='{:.1f}' r='5' fill='{}'/><text x='{:.1f}' "
        "y='{:.1f}'>{}</text></g>",
        s.id, cx, cy, s.color, best.left, best.bottom - 2, escape_html(s.name));
  }
  return text;
}

std::string Plot::svg() const {
  const Range x = range(false), y = range(true);
  std::string s = fmt::format("<figure><figcaption>{}</figcaption><svg viewBox='0 0 {} {}'>",
                              escape_html(title_), kWidth, kHeight);
  s += axes(x, y);
  for (const Series& line : series_) {
    if (line.points.size() == 1) continue;
    s += fmt::format("<polyline data-m='{}' stroke='{}' points='", line.id, line.color);
    for (const auto& [a, b] : line.points) s += fmt::format("{:.1f},{:.1f} ", px(a, x), py(b, y));
    s += fmt::format("'><title>{}</title></polyline>", escape_html(line.name));
  }
  return s + dots(x, y) + "</svg></figure>\n";
}

}  // namespace graft
