// The page of a comparison.
#include <gtest/gtest.h>

#include <regex>

#include "train/compare.h"
#include "train/plot.h"

namespace graft::testing {
namespace {

TrainResult result(const char* method, double metric, size_t bytes) {
  TrainResult r;
  r.method = method;
  r.metric = metric;
  r.trainable = static_cast<int64_t>(bytes / 4);
  r.total = 1000;
  r.peak_bytes = r.planned_peak_bytes = bytes;
  r.eval_seconds = 3;
  for (int i = 1; i <= 50; ++i) r.curve.push_back({i, 1.0 / i, 1e-3, 1, 100, NAN});
  for (size_t i = 0; i < 1000; ++i) r.timeline.push_back(bytes * (i % 7));
  return r;
}

size_t count(const std::string& text, const std::string& pattern) {
  const std::regex re(pattern);
  return static_cast<size_t>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), re), std::sregex_iterator()));
}

TEST(Report, ShowsEveryMethodEverywhere) {
  Comparison c{"a <b> & 'c'", "accuracy", 50, 32, 2, {}};
  c.methods.push_back({{result("head", 0.5, 4000), result("head", 0.6, 4000)}, 100});
  c.methods.push_back({{result("lora", 0.7, 8000), result("lora", 0.7, 8000)}, 200});
  const std::string page = report_page(c);
  EXPECT_EQ(count(page, "<svg"), 5u);
  EXPECT_EQ(count(page, "<tr data-m='[01]'>"), 2u);
  for (const char* m : {"0", "1"}) {
    EXPECT_EQ(count(page, std::string("<g data-m='") + m), 3u);
    EXPECT_EQ(count(page, std::string("<polyline data-m='") + m), 2u);
  }
  EXPECT_NE(page.find("a &lt;b&gt; &amp; &#39;c&#39;"), std::string::npos);
  EXPECT_EQ(page.find("a <b>"), std::string::npos);
  EXPECT_EQ(count(page, "\\b(nan|inf)\\b"), 0u);
  EXPECT_NE(page.find("55.00 &plusmn; 7.07"), std::string::npos);  // of 50 and 60
  EXPECT_EQ(to_json(c).at("rows")[0].at("inference_overhead"), 1.5);
}

TEST(Report, OneValueAndNoneAreDrawn) {
  Plot empty("t", "x", "y");
  EXPECT_EQ(count(empty.svg(), "\\b(nan|inf)\\b"), 0u);
  Plot one("t", "x", "y", Plot::Scale::log);
  one.add(0, "only", "red", {{0, 0}});
  EXPECT_EQ(count(one.svg(), "\\b(nan|inf)\\b"), 0u);
  EXPECT_EQ(count(one.svg(), ">only</text>"), 1u);
}

}  // namespace
}  // namespace graft::testing
