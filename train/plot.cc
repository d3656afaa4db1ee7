#include "train/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace graft {
namespace {

constexpr double kLeft = 64, kRight = 24, kTop = 14, kBottom = 48;
constexpr double kLetter = 6.2, kLine = 12;  // of a label, about
constexpr double kNoteGap = 16;
constexpr const char* kNoteColor = "#c0392b";

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

void Plot::resize(double width, double height) { width_ = width, height_ = height; }

void Plot::add_area(const std::string& name, const std::string& color,
                    std::vector<std::pair<double, double>> points) {
  if (!points.empty()) areas_.push_back({0, name, color, std::move(points)});
}

void Plot::add_band(const std::string& name, double from, double to) {
  bands_.push_back({name, from, to});
}

void Plot::add_tick(const std::string& name, double from, double to) {
  ticks_.push_back({name, from, to});
}

void Plot::add_note(double x, double y, std::vector<std::string> lines) {
  notes_.push_back({x, y, std::move(lines)});
}

Plot::Range Plot::range(bool of_y) const {
  Range r{INFINITY, -INFINITY};
  for (const Series& s : series_) {
    for (const auto& [x, y] : s.points) {
      r.low = std::min(r.low, of_y ? y : x);
      r.high = std::max(r.high, of_y ? y : x);
    }
  }
  if (series_.empty() && areas_.empty()) r = {0, 1};
  for (const Series& s : areas_) {
    for (const auto& [x, y] : s.points) {
      r.low = std::min(r.low, of_y ? std::min(0.0, y) : x);
      r.high = std::max(r.high, of_y ? y : x);
    }
  }
  if (!of_y && !areas_.empty()) return r;  // they reach from end to end
  const double room = r.high > r.low ? 0.04 * (r.high - r.low) : std::max(1e-3, 0.1 * r.high);
  return {r.low >= 0 ? std::max(0.0, r.low - room) : r.low - room, r.high + room};
}

double Plot::px(double x, Range r) const {
  return kLeft + (width_ - kLeft - right()) * (x - r.low) / (r.high - r.low);
}
double Plot::py(double y, Range r) const {
  return height_ - kBottom - (height_ - kBottom - kTop) * (y - r.low) / (r.high - r.low);
}

std::string Plot::axes(Range x, Range y) const {
  std::string s;
  for (double t : round_ticks(y.low, y.high)) {
    s += fmt::format("<path class='grid' d='M{} {:.1f}H{}'/>", kLeft, py(t, y), width_ - right());
    s += fmt::format("<text x='{}' y='{:.1f}' text-anchor='end'>{}</text>", kLeft - 6, py(t, y) + 4,
                     short_number(t));
  }
  std::vector<std::pair<double, double>> ticks;  // place, number
  for (const Stretch& t : ticks_) {
    const double left = px(t.from, x), right = px(t.to, x);
    s += fmt::format("<path class='grid' d='M{:.1f} {}V{}'/>", left, height_ - kBottom,
                     height_ - kBottom + 5);
    if (right - left < kLetter * static_cast<double>(t.name.size())) continue;
    s += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", (left + right) / 2,
                     height_ - kBottom + 16, escape_html(t.name));
  }
  if (x_scale_ == Scale::linear && ticks_.empty()) {
    for (double t : round_ticks(x.low, x.high)) ticks.emplace_back(t, t);
  } else if (ticks_.empty()) {
    if (x.low <= 0) ticks.emplace_back(0, 0);
    for (double n = 10; std::log10(1 + n) <= x.high; n *= 10) {
      if (std::log10(1 + n) >= x.low) ticks.emplace_back(std::log10(1 + n), n);
    }
  }
  for (const auto& [at, n] : ticks) {
    s += fmt::format("<path class='grid' d='M{:.1f} {}V{}'/>", px(at, x), kTop, height_ - kBottom);
    s += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", px(at, x),
                     height_ - kBottom + 16, short_number(n));
  }
  s += fmt::format("<text x='{}' y='{}' text-anchor='middle'>{}</text>",
                   (kLeft + width_ - right()) / 2, height_ - 10, escape_html(x_label_));
  return s + fmt::format(
                 "<text x='14' y='{0}' text-anchor='middle' transform='rotate(-90 14 {0})'>{1}"
                 "</text>",
                 (kTop + height_ - kBottom) / 2, escape_html(y_label_));
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
        cost += 40 * (std::max(0.0, kLeft - b.left) + std::max(0.0, b.right - width_) +
                      std::max(0.0, b.bottom - (height_ - kBottom)) + std::max(0.0, kTop - b.top));
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

// Shades behind everything, names above it.
std::string Plot::bands(Range x) const {
  std::string s;
  for (size_t i = 0; i < bands_.size(); ++i) {
    const double left = px(bands_[i].from, x), right = px(bands_[i].to, x);
    if (i % 2 == 1)
      s += fmt::format("<rect x='{:.1f}' y='{}' width='{:.1f}' height='{}' fill='#f3f3f3'/>", left,
                       kTop, right - left, height_ - kBottom - kTop);
    if (right - left < kLetter * static_cast<double>(bands_[i].name.size())) continue;
    s += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", (left + right) / 2,
                     kTop - 4, escape_html(bands_[i].name));
  }
  return s;
}

std::string Plot::areas(Range x, Range y) const {
  std::string s;
  for (const Series& a : areas_) {
    s += fmt::format("<path fill='{}' d='M{:.1f} {:.1f}", a.color, px(a.points[0].first, x),
                     py(0, y));
    for (const auto& [u, v] : a.points) s += fmt::format("L{:.1f} {:.1f}", px(u, x), py(v, y));
    s += fmt::format("L{:.1f} {:.1f}Z'><title>{}</title></path>", px(a.points.back().first, x),
                     py(0, y), escape_html(a.name));
  }
  return s;
}

// The point in the plot, the lines right of it, one note below the other.
std::string Plot::notes(Range x, Range y) const {
  std::string s;
  double top = kTop + kLine;
  const double left = width_ - right() + kNoteGap;
  for (const Note& n : notes_) {
    s += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='4' fill='{}'/>", px(n.x, x), py(n.y, y),
                     kNoteColor);
    s += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='4' fill='{}'/>", left + 4, top - 4,
                     kNoteColor);
    for (const std::string& line : n.lines) {
      s += fmt::format("<text x='{:.1f}' y='{:.1f}' xml:space='preserve'>{}</text>", left + 14, top,
                       escape_html(line));
      top += 1.3 * kLine;
    }
    top += kLine;
  }
  for (const auto* all : {&areas_, &series_}) {
    for (const Series& of : *all) {
      if (of.name.empty() || notes_.empty()) continue;
      s += fmt::format("<rect x='{:.1f}' y='{:.1f}' width='9' height='9' fill='{}'/>", left,
                       top - 9, of.color);
      s += fmt::format("<text x='{:.1f}' y='{:.1f}'>{}</text>", left + 14, top,
                       escape_html(of.name));
      top += 1.3 * kLine;
    }
  }
  return s;
}

double Plot::right() const {
  size_t longest = 0;
  for (const Note& n : notes_) {
    for (const std::string& line : n.lines) longest = std::max(longest, line.size());
  }
  return notes_.empty() ? kRight : kNoteGap + 14 + kLetter * static_cast<double>(longest);
}

std::string Plot::content() const {
  const Range x = range(false), y = range(true);
  std::string s = bands(x) + areas(x, y) + axes(x, y);
  for (const Series& line : series_) {
    if (line.points.size() == 1) continue;
    s += fmt::format("<polyline data-m='{}' stroke='{}' points='", line.id, line.color);
    for (const auto& [a, b] : line.points) s += fmt::format("{:.1f},{:.1f} ", px(a, x), py(b, y));
    s += fmt::format("'><title>{}</title></polyline>", escape_html(line.name));
  }
  s += dots(x, y);
  return s + notes(x, y);
}

std::string Plot::svg() const {
  return fmt::format(
      "<figure><figcaption>{}</figcaption><svg viewBox='0 0 {} {}'>{}</svg></figure>\n",
      escape_html(title_), width_, height_, content());
}

std::string Plot::file() const {
  constexpr double kTitle = 30;
  return fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='{0}' height='{1}' viewBox='0 {2} {0} {1}'>"
      "<style>text{{font:11px system-ui,sans-serif;fill:#444}}.grid{{stroke:#0002}}"
      "polyline{{fill:none;stroke-width:1.6}}.title{{font-size:14px;font-weight:600}}</style>"
      "<rect y='{2}' width='{0}' height='{1}' fill='#fff'/>"
      "<text class='title' x='{3}' y='-8'>{4}</text>{5}</svg>\n",
      width_, height_ + kTitle, -kTitle, kLeft, escape_html(title_), content());
}

}  // namespace graft
