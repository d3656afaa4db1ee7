#include "train/compare.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>

namespace graft {
namespace {

constexpr const char* kColors[] = {"#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"};
const char* color(size_t i) { return kColors[i % std::size(kColors)]; }

double mega(size_t bytes) { return static_cast<double>(bytes) / 1e6; }

// An SVG plot of points or lines in data coordinates.
class Plot {
 public:
  Plot(std::string title, std::string x_label, std::string y_label, bool log_x)
      : title_(std::move(title)), x_label_(std::move(x_label)), y_label_(std::move(y_label)), log_x_(log_x) {}

  void add(const std::string& name, std::vector<std::pair<double, double>> points, size_t color_index) {
    for (auto& [x, y] : points) {
      if (log_x_) x = std::log10(std::max(x, 1.0));
      low_x_ = std::min(low_x_, x), high_x_ = std::max(high_x_, x);
      low_y_ = std::min(low_y_, y), high_y_ = std::max(high_y_, y);
    }
    series_.push_back({name, std::move(points), color_index});
  }

  std::string svg() const {
    std::string s = fmt::format("<figure><figcaption>{}</figcaption><svg viewBox='0 0 {} {}'>", title_, kWidth, kHeight);
    for (int i = 0; i <= 4; ++i) {
      const double y = low_y_ + (high_y_ - low_y_) * i / 4, x = low_x_ + (high_x_ - low_x_) * i / 4;
      s += fmt::format("<line class='grid' x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}'/><text x='{}' y='{:.1f}' text-anchor='end'>{:.3g}</text>", kLeft, kWidth - kRight,
                       py(y), py(y), kLeft - 6, py(y) + 4, y);
      s += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", px(x), kHeight - kBottom + 18, log_x_ ? fmt::format("{:.3g}", std::pow(10, x)) : fmt::format("{:.4g}", x));
    }
    s += fmt::format("<text x='{}' y='{}' text-anchor='middle'>{}</text>", (kLeft + kWidth - kRight) / 2, kHeight - 6, x_label_);
    s += fmt::format("<text x='12' y='{}' text-anchor='middle' transform='rotate(-90 12 {})'>{}</text>", kHeight / 2, kHeight / 2, y_label_);
    for (const Series& line : series_) {
      const char* c = color(line.color);
      if (line.points.size() == 1) {
        const auto [x, y] = line.points[0];
        s += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='5' fill='{}'><title>{}</title></circle><text x='{:.1f}' y='{:.1f}'>{}</text>", px(x), py(y), c, line.name,
                         px(x) + 7, py(y) + 4, line.name);
      } else {
        s += fmt::format("<polyline fill='none' stroke='{}' stroke-width='1.5' points='", c);
        for (const auto& [x, y] : line.points) s += fmt::format("{:.1f},{:.1f} ", px(x), py(y));
        s += fmt::format("'><title>{}</title></polyline>", line.name);
      }
    }
    return s + "</svg></figure>\n";
  }

 private:
  static constexpr int kWidth = 620, kHeight = 360, kLeft = 60, kRight = 90, kBottom = 44, kTop = 12;
  struct Series {
    std::string name;
    std::vector<std::pair<double, double>> points;
    size_t color;
  };
  double px(double x) const { return kLeft + (kWidth - kLeft - kRight) * (high_x_ > low_x_ ? (x - low_x_) / (high_x_ - low_x_) : 0.5); }
  double py(double y) const { return kHeight - kBottom - (kHeight - kBottom - kTop) * (high_y_ > low_y_ ? (y - low_y_) / (high_y_ - low_y_) : 0.5); }
  std::string title_, x_label_, y_label_;
  bool log_x_;
  double low_x_ = INFINITY, high_x_ = -INFINITY, low_y_ = INFINITY, high_y_ = -INFINITY;
  std::vector<Series> series_;
};

// Averages of runs of losses, so that a curve can be read.
std::vector<std::pair<double, double>> smoothed(const std::vector<double>& losses) {
  const size_t window = std::max<size_t>(1, losses.size() / 50);
  std::vector<std::pair<double, double>> points;
  for (size_t i = 0; i + window <= losses.size(); i += window) {
    double sum = 0;
    for (size_t k = i; k < i + window; ++k) sum += losses[k];
    points.emplace_back(static_cast<double>(i + window), sum / static_cast<double>(window));
  }
  return points;
}

}  // namespace

Json to_json(const TrainResult& r, const std::string& metric) {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return {{"method", r.method}, {"trainable_parameters", r.trainable}, {"total_parameters", r.total}, {"steps", r.steps}, {"final_loss", r.final_loss},
          {"metrics", {{metric, r.test_metric}, {"dev_" + metric, r.dev_metric}}}, {"seconds_per_step", r.seconds_per_step}, {"tokens_per_second", r.tokens_per_second},
          {"peak_bytes", r.peak_bytes}, {"planned_peak_bytes", r.planned_peak_bytes}, {"peak_rss_bytes", static_cast<int64_t>(usage.ru_maxrss) * 1024}, {"losses", r.losses}};
}

std::string comparison_table(const std::vector<TrainResult>& results, const std::string& metric, double base_seconds) {
  std::string s = fmt::format("{:16} {:>9} {:>11} {:>8} {:>12} {:>12} {:>8} {:>9} {:>9}\n", "method", metric, "trainable", "%", "planned MB", "measured MB", "s/step", "tokens/s", "overhead");
  for (const TrainResult& r : results) {
    s += fmt::format("{:16} {:>9.2f} {:>11} {:>8.3f} {:>12.1f} {:>12.1f} {:>8.3f} {:>9.0f} {:>9}\n", r.method, 100 * r.test_metric, r.trainable,
                     100 * static_cast<double>(r.trainable) / static_cast<double>(std::max<int64_t>(1, r.total)), mega(r.planned_peak_bytes), mega(r.peak_bytes),
                     r.seconds_per_step, r.tokens_per_second, base_seconds > 0 ? fmt::format("{:.2f}", r.eval_seconds / base_seconds) : "-");
  }
  return s;
}

std::string profile_table(const TrainResult& r) {
  double total = 0;
  for (const OpTime& t : r.profile) total += t.seconds;
  std::string s = fmt::format("{:24} {:>8} {:>9} {:>7} {:>9}\n", "op", "calls", "seconds", "%", "GFLOP/s");
  for (const OpTime& t : r.profile) {
    s += fmt::format("{:24} {:>8} {:>9.3f} {:>7.1f} {:>9.1f}\n", t.op, t.calls, t.seconds, 100 * t.seconds / total, t.seconds > 0 ? t.flops / t.seconds / 1e9 : 0);
  }
  return s;
}

std::string comparison_report(const std::vector<TrainResult>& results, const Json& all) {
  const auto metric = all.at("metric").get<std::string>();
  std::string s = "<!doctype html><meta charset='utf-8'><title>graft: comparison of methods</title><style>"
      "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1320px;padding:0 1rem;color:#222}"
      "table{border-collapse:collapse}th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}"
      "figure{display:inline-block;width:48%;min-width:480px;margin:1rem 0}figcaption{font-weight:600}svg{width:100%}svg text{font-size:11px;fill:#444}.grid{stroke:#e5e5e5}</style>\n";
  s += fmt::format("<h1>Methods on {}</h1><p>{} steps of {} rows, seed {}. Test {} in percent; parameters without the head.</p>\n", all.at("task").get<std::string>(),
                   all.at("steps").get<int64_t>(), all.at("batch").get<int64_t>(), all.at("seed").get<int64_t>(), metric);
  s += "<table><tr><th>method<th>" + metric + "<th>trainable<th>%<th>stored KB<th>planned MB<th>measured MB<th>s/step<th>tokens/s<th>overhead</tr>\n";
  Plot params(metric + " against trainable parameters", "trainable parameters", metric + " %", true), memory(metric + " against memory", "peak MB of a step", metric + " %", false);
  Plot time(metric + " against time", "seconds per step", metric + " %", false), curves("learning curves", "step", "loss", false), timeline("memory of one step", "share of the step's actions", "arena MB", false);
  for (size_t i = 0; i < results.size(); ++i) {
    const TrainResult& r = results[i];
    const Json& row = all.at("rows").at(i);
    s += fmt::format("<tr><td>{}<td>{:.2f}<td>{}<td>{:.3f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{:.3f}<td>{:.0f}<td>{:.2f}</tr>\n", r.method, 100 * r.test_metric, r.trainable,
                     100 * static_cast<double>(r.trainable) / static_cast<double>(std::max<int64_t>(1, r.total)), row.at("storage_bytes").get<double>() / 1e3,
                     mega(r.planned_peak_bytes), mega(r.peak_bytes), r.seconds_per_step, r.tokens_per_second, row.at("inference_overhead").get<double>());
    params.add(r.method, {{static_cast<double>(r.trainable), 100 * r.test_metric}}, i);
    memory.add(r.method, {{mega(r.peak_bytes), 100 * r.test_metric}}, i);
    time.add(r.method, {{r.seconds_per_step, 100 * r.test_metric}}, i);
    curves.add(r.method, smoothed(r.losses), i);
    std::vector<std::pair<double, double>> line;
    for (size_t k = 0; k < r.timeline.size(); k += std::max<size_t>(1, r.timeline.size() / 400)) {
      line.emplace_back(static_cast<double>(k) / static_cast<double>(r.timeline.size()), mega(r.timeline[k]));
    }
    timeline.add(r.method, std::move(line), i);
  }
  s += "</table>\n" + params.svg() + memory.svg() + time.svg() + curves.svg() + timeline.svg() + "<p>";
  for (size_t i = 0; i < results.size(); ++i) s += fmt::format("<span style='color:{}'>&#9632;</span> {} &nbsp; ", color(i), results[i].method);
  return s + "</p>\n";
}

}  // namespace graft
