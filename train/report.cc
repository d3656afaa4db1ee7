// The page of a comparison: a table and plots as inline SVG, nothing to load.
#include <algorithm>
#include <cmath>
#include <map>

#include "core/units.h"
#include "train/compare.h"
#include "train/metrics.h"
#include "train/plot.h"

namespace graft {
namespace {

// Methods of one class share a hue; within it they go from dark to light.
class Colors {
 public:
  explicit Colors(const Comparison& c) {
    std::map<std::string, size_t> seen;
    for (const ComparedMethod& m : c.methods) {
      const std::string family = family_of(m);
      const size_t hue = std::ranges::find(kHues, family, &Hue::family) - std::begin(kHues);
      const int h = hue < std::size(kHues) ? kHues[hue].degrees : 0;
      const size_t k = seen[family]++;
      colors_.push_back(fmt::format("hsl({},{}%,{}%)", h + 7 * static_cast<int>(k % 3),
                                    h == 0 ? 0 : 65, 32 + 7 * (k % 5)));
    }
  }
  const std::string& of(size_t method) const { return colors_[method]; }
  static std::string family_of(const ComparedMethod& m) {
    return std::string(peft::find_method(m.first().method).family);
  }

 private:
  struct Hue {
    std::string_view family;
    int degrees;
  };
  static constexpr Hue kHues[] = {{"baseline", 0},
                                  {"selective", 95},
                                  {"additive: adapter", 215},
                                  {"additive: soft prompt", 35},
                                  {"additive", 185},
                                  {"additive: side network", 55},
                                  {"reparametrization", 345},
                                  {"hybrid", 275}};
  std::vector<std::string> colors_;
};

// An exponential average, so that curves can be read: single batches jump.
std::vector<std::pair<double, double>> smoothed(const std::vector<CurvePoint>& curve) {
  const double keep = std::max(0.0, 1 - 20.0 / static_cast<double>(curve.size() + 20));
  const size_t stride = std::max<size_t>(1, curve.size() / 200);
  std::vector<std::pair<double, double>> points;
  double sum = 0, weight = 0;
  for (size_t i = 0; i < curve.size(); ++i) {
    sum = keep * sum + curve[i].loss;
    weight = keep * weight + 1;
    if (i % stride == stride - 1 || i + 1 == curve.size()) {
      points.emplace_back(static_cast<double>(curve[i].step), sum / weight);
    }
  }
  return points;
}

std::vector<std::pair<double, double>> timeline_of(const TrainResult& r) {
  std::vector<std::pair<double, double>> line;
  const size_t stride = std::max<size_t>(1, r.timeline.size() / 300);
  for (size_t k = 0; k < r.timeline.size(); k += stride) {
    line.emplace_back(100 * static_cast<double>(k) / static_cast<double>(r.timeline.size()),
                      mega(r.timeline[k]));
  }
  return line;
}

constexpr const char* kHead = R"(<!doctype html><html lang='en'><meta charset='utf-8'>
<meta name='viewport' content='width=device-width'><title>graft: comparison of methods</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1320px;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
td:nth-child(2){color:#666}tr:hover{background:#f4f4f4}i{font-style:normal;margin-right:.4rem}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:1rem;margin-top:1.5rem}
figure{margin:0}figcaption{font-weight:600}svg{width:100%}svg text{font-size:11px;fill:#444}
.grid{stroke:#e8e8e8}polyline{fill:none;stroke-width:1.6}[data-m]{transition:opacity .1s}
body.dim svg [data-m]:not(.hot){opacity:.08}</style>
)";

// Pointing at a method, in the table or a plot, lets it stand out everywhere.
constexpr const char* kTail = R"(</main><script>
for (const e of document.querySelectorAll('[data-m]')) {
  const all = document.querySelectorAll(`[data-m='${e.dataset.m}']`);
  const show = on => { document.body.classList.toggle('dim', on); all.forEach(x => x.classList.toggle('hot', on)); };
  e.addEventListener('mouseenter', () => show(true));
  e.addEventListener('mouseleave', () => show(false));
}
</script>
)";

std::string table_row(const Comparison& c, size_t i, const Colors& colors) {
  const ComparedMethod& m = c.methods[i];
  const TrainResult& r = m.first();
  const std::string deviation =
      m.seeds.size() > 1 ? fmt::format(" &plusmn; {:.2f}", shown(c.metric, m.deviation())) : "";
  const std::string also =
      c.also.empty() ? "" : fmt::format("<td>{:.2f}", shown(c.metric, m.also()));
  const double share =
      100 * static_cast<double>(r.trainable) / static_cast<double>(std::max<int64_t>(1, r.total));
  return fmt::format(
      "<tr data-m='{}'><td><i style='color:{}'>&#9679;</i>{}<td>{}<td>{:.2f}{}{}<td>{}<td>{:.3f}"
      "<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{:.3f}<td>{:.0f}<td>{:.2f}</tr>\n",
      i, colors.of(i), escape_html(r.method), escape_html(Colors::family_of(m)),
      shown(c.metric, m.mean()), deviation, also, r.trainable, share,
      static_cast<double>(m.storage_bytes) / 1e3, mega(r.planned_peak_bytes), mega(r.peak_bytes),
      r.seconds_per_step, r.tokens_per_second, c.overhead(m));
}

// What the model did before training.
std::string before(const Comparison& c) {
  if (c.base.empty()) return "";
  std::string s = fmt::format(" Before training: {:.2f}", shown(c.metric, c.base.at(c.metric)));
  if (!c.base_also.empty()) {
    s += fmt::format(", on {} {:.2f}", escape_html(c.also),
                     shown(c.metric, c.base_also.at(c.metric)));
  }
  return s + ".";
}

std::string left_out(const Comparison& c) {
  if (c.left_out.empty()) return "";
  std::string s = "<p>Left out, since they do not fit:</p><ul>\n";
  for (const LeftOut& m : c.left_out)
    s += fmt::format("<li><b>{}</b> &ndash; {}</li>\n", escape_html(m.method),
                     escape_html(m.reason));
  return s + "</ul>\n";
}

}  // namespace

std::string report_page(const Comparison& c) {
  const size_t seeds = c.methods.empty() ? 0 : c.methods[0].seeds.size();
  const bool lower = lower_is_better(c.metric);
  const Colors colors(c);
  std::string s = kHead;
  s += fmt::format(
      "<h1>Fine-tuning methods on {}</h1><p>{} steps of {} rows, {}. Test {}{}; parameters "
      "without the task head; overhead: time of inference over that of the base model.{}</p>\n",
      escape_html(c.task), c.steps, c.batch,
      seeds > 1 ? fmt::format("mean and deviation of {} seeds", seeds) : "one seed", c.metric,
      lower ? ", lower is better" : " in percent", before(c));
  s += "<table><tr><th>method<th>class<th>" + c.metric +
       (c.also.empty() ? "" : "<th>on " + escape_html(c.also)) +
       "<th>trainable<th>%<th>stored KB<th>planned MB<th>measured MB<th>s/step<th>tokens/s"
       "<th>overhead</tr>\n";
  const std::string metric = c.metric + (lower ? ", lower is better" : " %");
  Plot params(c.metric + " against trainable parameters", "trainable parameters", metric,
              Plot::Scale::log);
  Plot memory(c.metric + " against memory", "peak MB of a step", metric);
  Plot time(c.metric + " against time", "seconds per step", metric);
  Plot forgetting("gain and forgetting", c.metric + " on " + c.also, metric);
  Plot curves("learning curves", "step", "loss (averaged)");
  Plot timeline("memory of one step, beside parameters", "% of the step's actions", "MB");
  for (size_t i = 0; i < c.methods.size(); ++i) {
    const ComparedMethod& m = c.methods[i];
    const TrainResult& r = m.first();
    const std::string& color = colors.of(i);
    const double y = shown(c.metric, m.mean());
    s += table_row(c, i, colors);
    params.add(i, r.method, color, {{static_cast<double>(r.trainable), y}});
    memory.add(i, r.method, color, {{mega(r.peak_bytes), y}});
    if (!c.also.empty()) forgetting.add(i, r.method, color, {{shown(c.metric, m.also()), y}});
    time.add(i, r.method, color, {{r.seconds_per_step, y}});
    curves.add(i, r.method, color, smoothed(r.curve));
    timeline.add(i, r.method, color, timeline_of(r));
  }
  return s + "</table>\n" + left_out(c) + "<main>" + params.svg() + memory.svg() + time.svg() +
         (c.also.empty() ? "" : forgetting.svg()) + curves.svg() + timeline.svg() + kTail;
}

}  // namespace graft
