// The page of a comparison: a table and plots as inline SVG, nothing to load.
#include <algorithm>
#include <cmath>

#include "train/compare.h"

namespace graft {
namespace {

constexpr const char* kColors[] = {"#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951",
                                   "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"};
const char* color(size_t i) { return kColors[i % std::size(kColors)]; }

double mega(size_t bytes) { return static_cast<double>(bytes) / 1e6; }

// An SVG plot of points or lines in data coordinates.
class Plot {
 public:
  Plot(std::string title, std::string x_label, std::string y_label, bool log_x)
      : title_(std::move(title)),
        x_label_(std::move(x_label)),
        y_label_(std::move(y_label)),
        log_x_(log_x) {}

  void add(const std::string& name, std::vector<std::pair<double, double>> points,
           size_t color_index) {
    for (auto& [x, y] : points) {
      if (log_x_) x = std::log10(std::max(x, 1.0));
      low_x_ = std::min(low_x_, x), high_x_ = std::max(high_x_, x);
      low_y_ = std::min(low_y_, y), high_y_ = std::max(high_y_, y);
    }
    series_.push_back({name, std::move(points), color_index});
  }

  std::string svg() const {
    std::string s = fmt::format("<figure><figcaption>{}</figcaption><svg viewBox='0 0 {} {}'>",
                                title_, kWidth, kHeight);
    for (int i = 0; i <= 4; ++i) {
      const double y = low_y_ + (high_y_ - low_y_) * i / 4, x = low_x_ + (high_x_ - low_x_) * i / 4;
      s += fmt::format(
          "<line class='grid' x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}'/><text x='{}' y='{:.1f}' "
          "text-anchor='end'>{:.3g}</text>",
          kLeft, kWidth - kRight, py(y), py(y), kLeft - 6, py(y) + 4, y);
      s += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", px(x),
                       kHeight - kBottom + 18,
                       log_x_ ? fmt::format("{:.3g}", std::pow(10, x)) : fmt::format("{:.4g}", x));
    }
    s += fmt::format("<text x='{}' y='{}' text-anchor='middle'>{}</text>",
                     (kLeft + kWidth - kRight) / 2, kHeight - 6, x_label_);
    s += fmt::format(
        "<text x='12' y='{}' text-anchor='middle' transform='rotate(-90 12 {})'>{}</text>",
        kHeight / 2, kHeight / 2, y_label_);
    for (const Series& line : series_) {
      const char* c = color(line.color);
      if (line.points.size() == 1) {
        const auto [x, y] = line.points[0];
        s += fmt::format(
            "<circle cx='{:.1f}' cy='{:.1f}' r='5' fill='{}'><title>{}</title></circle><text "
            "x='{:.1f}' y='{:.1f}'>{}</text>",
            px(x), py(y), c, line.name, px(x) + 7, py(y) + 4, line.name);
      } else {
        s += fmt::format("<polyline fill='none' stroke='{}' stroke-width='1.5' points='", c);
        for (const auto& [x, y] : line.points) s += fmt::format("{:.1f},{:.1f} ", px(x), py(y));
        s += fmt::format("'><title>{}</title></polyline>", line.name);
      }
    }
    return s + "</svg></figure>\n";
  }

 private:
  static constexpr int kWidth = 620, kHeight = 360, kLeft = 60, kRight = 90, kBottom = 44,
                       kTop = 12;
  struct Series {
    std::string name;
    std::vector<std::pair<double, double>> points;
    size_t color;
  };
  double px(double x) const {
    return kLeft +
           (kWidth - kLeft - kRight) * (high_x_ > low_x_ ? (x - low_x_) / (high_x_ - low_x_) : 0.5);
  }
  double py(double y) const {
    return kHeight - kBottom -
           (kHeight - kBottom - kTop) *
               (high_y_ > low_y_ ? (y - low_y_) / (high_y_ - low_y_) : 0.5);
  }
  std::string title_, x_label_, y_label_;
  bool log_x_;
  double low_x_ = INFINITY, high_x_ = -INFINITY, low_y_ = INFINITY, high_y_ = -INFINITY;
  std::vector<Series> series_;
};

// Averages of runs of losses, so that a curve can be read.
std::vector<std::pair<double, double>> smoothed(const std::vector<CurvePoint>& curve) {
  const size_t window = std::max<size_t>(1, curve.size() / 50);
  std::vector<std::pair<double, double>> points;
  for (size_t i = 0; i + window <= curve.size(); i += window) {
    double sum = 0;
    for (size_t k = i; k < i + window; ++k) sum += curve[k].loss;
    points.emplace_back(static_cast<double>(curve[i + window - 1].step),
                        sum / static_cast<double>(window));
  }
  return points;
}

constexpr const char* kHead =
    R"(<!doctype html><meta charset='utf-8'><title>graft: comparison of methods</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1320px;padding:0 1rem;color:#222}
table{border-collapse:collapse}th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}figure{display:inline-block;width:48%;min-width:480px;margin:1rem 0}
figcaption{font-weight:600}svg{width:100%}svg text{font-size:11px;fill:#444}.grid{stroke:#e5e5e5}</style>
)";

std::string table_row(const Comparison& c, const ComparedMethod& m) {
  const TrainResult& r = m.first();
  const std::string deviation =
      m.seeds.size() > 1 ? fmt::format(" &plusmn; {:.2f}", 100 * m.deviation()) : "";
  const double share =
      100 * static_cast<double>(r.trainable) / static_cast<double>(std::max<int64_t>(1, r.total));
  return fmt::format(
      "<tr><td>{}<td>{:.2f}{}<td>{}<td>{:.3f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{:.3f}<td>{:.0f}<td>"
      "{:.2f}"
      "</tr>\n",
      r.method, 100 * m.mean(), deviation, r.trainable, share,
      static_cast<double>(m.storage_bytes) / 1e3, mega(r.planned_peak_bytes), mega(r.peak_bytes),
      r.seconds_per_step, r.tokens_per_second, c.overhead(m));
}

}  // namespace

std::string report_page(const Comparison& c) {
  const size_t seeds = c.methods.empty() ? 0 : c.methods[0].seeds.size();
  std::string s = kHead;
  s += fmt::format(
      "<h1>Methods on {}</h1><p>{} steps of {} rows, {}. Test {} in percent; parameters without "
      "the "
      "head.</p>\n",
      c.task, c.steps, c.batch,
      seeds > 1 ? fmt::format("mean and deviation of {} seeds", seeds) : "one seed", c.metric);
  s += "<table><tr><th>method<th>" + c.metric +
       "<th>trainable<th>%<th>stored KB<th>planned MB<th>measured "
       "MB<th>s/step<th>tokens/s<th>overhead"
       "</tr>\n";
  Plot params(c.metric + " against trainable parameters", "trainable parameters", c.metric + " %",
              true);
  Plot memory(c.metric + " against memory", "peak MB of a step", c.metric + " %", false);
  Plot time(c.metric + " against time", "seconds per step", c.metric + " %", false);
  Plot curves("learning curves", "step", "loss", false);
  Plot timeline("memory of one step", "share of the step's actions", "arena MB", false);
  for (size_t i = 0; i < c.methods.size(); ++i) {
    const ComparedMethod& m = c.methods[i];
    const TrainResult& r = m.first();
    s += table_row(c, m);
    params.add(r.method, {{static_cast<double>(r.trainable), 100 * m.mean()}}, i);
    memory.add(r.method, {{mega(r.peak_bytes), 100 * m.mean()}}, i);
    time.add(r.method, {{r.seconds_per_step, 100 * m.mean()}}, i);
    curves.add(r.method, smoothed(r.curve), i);
    std::vector<std::pair<double, double>> line;
    for (size_t k = 0; k < r.timeline.size(); k += std::max<size_t>(1, r.timeline.size() / 400)) {
      line.emplace_back(static_cast<double>(k) / static_cast<double>(r.timeline.size()),
                        mega(r.timeline[k]));
    }
    timeline.add(r.method, std::move(line), i);
  }
  s += "</table>\n" + params.svg() + memory.svg() + time.svg() + curves.svg() + timeline.svg() +
       "<p>";
  for (size_t i = 0; i < c.methods.size(); ++i) {
    s += fmt::format("<span style='color:{}'>&#9632;</span> {} &nbsp; ", color(i),
                     c.methods[i].first().method);
  }
  return s + "</p>\n";
}

}  // namespace graft
