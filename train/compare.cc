#include "train/compare.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "core/units.h"
#include "train/metrics.h"

namespace graft {
namespace {

std::string metric_text(const Comparison& c, const ComparedMethod& m) {
  const std::string mean = fmt::format("{:.2f}", shown(c.metric, m.mean()));
  return m.seeds.size() == 1 ? mean
                             : mean + fmt::format(" ± {:.2f}", shown(c.metric, m.deviation()));
}

// Right-aligned by characters, not bytes: ± has two.
std::string aligned(const std::string& text, size_t width) {
  size_t length = 0;
  for (char c : text) length += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return std::string(width > length ? width - length : 0, ' ') + text;
}

}  // namespace

double shown(const std::string& metric, double value) {
  return in_percent(metric) ? 100 * value : value;
}

double ComparedMethod::mean() const {
  double sum = 0;
  for (const TrainResult& r : seeds) sum += r.metric;
  return sum / static_cast<double>(seeds.size());
}

double ComparedMethod::also() const {
  double sum = 0;
  for (const TrainResult& r : seeds) sum += r.also_metric;
  return sum / static_cast<double>(seeds.size());
}

double ComparedMethod::deviation() const {
  if (seeds.size() < 2) return 0;
  double squares = 0;
  for (const TrainResult& r : seeds) squares += (r.metric - mean()) * (r.metric - mean());
  return std::sqrt(squares / static_cast<double>(seeds.size() - 1));
}

double Comparison::overhead(const ComparedMethod& m) const {
  return base_seconds > 0 ? m.first().eval_seconds / base_seconds : 0;
}

Json to_json(const TrainResult& r) {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  Json losses = Json::array();
  for (const CurvePoint& p : r.curve) losses.push_back(p.loss);
  Json j = {{"method", r.method},
            {"trainable_parameters", r.trainable},
            {"total_parameters", r.total},
            {"steps", r.steps},
            {"final_loss", r.final_loss},
            {"metrics", r.test},
            {"dev_metrics", r.dev},
            {"seconds_per_step", r.seconds_per_step},
            {"tokens_per_second", r.tokens_per_second},
            {"peak_bytes", r.peak_bytes},
            {"planned_peak_bytes", r.planned_peak_bytes},
            {"offloaded_bytes", r.offloaded_bytes},
            {"planned_over_model_bytes", r.planned_over_model_bytes},
            {"rss_over_model_bytes", r.rss_over_model_bytes},
            {"peak_rss_bytes", static_cast<int64_t>(usage.ru_maxrss) * 1024},
            {"losses", losses}};
  if (!r.also.empty()) j["also_metrics"] = r.also;
  if (r.best_step > 0) j["best_step"] = r.best_step;
  if (r.interrupted) j["interrupted"] = true;
  return j;
}

Json to_json(const Comparison& c) {
  Json rows = Json::array();
  for (const ComparedMethod& m : c.methods) {
    Json row = to_json(m.first());
    row["metric_mean"] = m.mean();
    row["metric_deviation"] = m.deviation();
    row["seeds"] = Json::array();
    for (const TrainResult& r : m.seeds) row["seeds"].push_back(r.test);
    if (!c.also.empty()) row["also_mean"] = m.also();
    row["storage_bytes"] = m.storage_bytes;
    row["inference_overhead"] = c.overhead(m);
    rows.push_back(row);
  }
  Json j = {
      {"task", c.task},   {"metric", c.metric}, {"lower_is_better", lower_is_better(c.metric)},
      {"steps", c.steps}, {"batch", c.batch},   {"rows", rows}};
  j["left_out"] = Json::array();
  for (const LeftOut& m : c.left_out)
    j["left_out"].push_back({{"method", m.method}, {"reason", m.reason}});
  if (!c.also.empty()) j["also"] = c.also;
  if (!c.base.empty()) j["base"] = {{"metrics", c.base}};
  if (!c.base_also.empty()) j["base"]["also_metrics"] = c.base_also;
  return j;
}

std::string table_of(const Comparison& c) {
  const size_t wide = std::max(c.methods.empty() || c.methods[0].seeds.size() == 1 ? 9 : 14,
                               static_cast<int>(c.metric.size()));
  auto also = [&](const std::string& text) {
    return c.also.empty() ? "" : " " + aligned(text, std::max<size_t>(9, c.also.size() + 3));
  };
  std::string s =
      fmt::format("{:16} {}{} {:>11} {:>8} {:>10} {:>12} {:>12} {:>8} {:>9} {:>9}\n", "method",
                  aligned(c.metric, wide), also("on " + c.also), "trainable", "%", "stored KB",
                  "planned MB", "measured MB", "s/step", "tokens/s", "overhead");
  if (!c.base.empty()) {
    const double on_also = c.base_also.empty() ? 0 : c.base_also.at(c.metric);
    s += fmt::format("{:16} {}{}\n", "(before)",
                     aligned(fmt::format("{:.2f}", shown(c.metric, c.base.at(c.metric))), wide),
                     also(fmt::format("{:.2f}", shown(c.metric, on_also))));
  }
  for (const ComparedMethod& m : c.methods) {
    const TrainResult& r = m.first();
    const double share =
        100 * static_cast<double>(r.trainable) / static_cast<double>(std::max<int64_t>(1, r.total));
    s += fmt::format(
        "{:16} {}{} {:>11} {:>8.3f} {:>10.1f} {:>12.1f} {:>12.1f} {:>8.3f} {:>9.0f} {:>9}\n",
        r.method, aligned(metric_text(c, m), wide),
        also(fmt::format("{:.2f}", shown(c.metric, m.also()))), r.trainable, share,
        static_cast<double>(m.storage_bytes) / 1e3, mega(r.planned_peak_bytes), mega(r.peak_bytes),
        r.seconds_per_step, r.tokens_per_second,
        c.base_seconds > 0 ? fmt::format("{:.2f}", c.overhead(m)) : "-");
  }
  for (const LeftOut& m : c.left_out) {  // a message may go on to list what a model has
    s += fmt::format("{:16} left out: {}\n", m.method, m.reason.substr(0, m.reason.find('\n')));
  }
  return s;
}

std::string profile_table(const TrainResult& r) {
  double total = 0;
  for (const OpTime& t : r.profile) total += t.seconds;
  std::string s =
      fmt::format("{:24} {:>8} {:>9} {:>7} {:>9}\n", "op", "calls", "seconds", "%", "GFLOP/s");
  for (const OpTime& t : r.profile) {
    s += fmt::format("{:24} {:>8} {:>9.3f} {:>7.1f} {:>9.1f}\n", t.op, t.calls, t.seconds,
                     100 * t.seconds / total, t.seconds > 0 ? t.flops / t.seconds / 1e9 : 0);
  }
  return s;
}

std::string curve_csv(const TrainResult& r) {
  std::string s = "step,loss,lr,grad_norm,tokens_per_second,dev\n";
  for (const CurvePoint& p : r.curve) {
    s += fmt::format("{},{},{},{},{:.1f},{}\n", p.step, p.loss, p.lr, p.grad_norm,
                     p.tokens_per_second, std::isnan(p.dev) ? "" : fmt::format("{}", p.dev));
  }
  return s;
}

}  // namespace graft
