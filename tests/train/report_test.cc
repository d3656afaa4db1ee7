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

// Perplexity is not a share of anything, and less of it is better.
TEST(Report, ShowsPerplexity) {
  Comparison c{"kjv", "perplexity", 50, 32, 2, {}};
  c.also = "austen";
  c.base = {{"perplexity", 90.5}};
  c.base_also = {{"perplexity", 30.25}};
  for (double also : {33.0, 36.0}) {
    TrainResult r = result("lora", 40.5, 8000);
    r.also_metric = also;
    if (c.methods.empty()) c.methods.emplace_back();
    c.methods[0].seeds.push_back(r);
  }
  const std::string page = report_page(c), table = table_of(c);
  EXPECT_EQ(count(page, "<svg"), 6u) << "and gain against forgetting";
  EXPECT_EQ(count(page, "lower is better"), 5u);  // of the text and four plots
  EXPECT_NE(page.find("<th>on austen"), std::string::npos);
  EXPECT_NE(page.find("<td>40.50"), std::string::npos) << page;
  EXPECT_NE(page.find("<td>34.50"), std::string::npos);
  EXPECT_NE(page.find("Before training: 90.50, on austen 30.25."), std::string::npos);
  EXPECT_NE(table.find("on austen"), std::string::npos);
  EXPECT_EQ(count(table, "\\(before\\) +90.50 +30.25\n"), 1u) << table;
  EXPECT_EQ(count(table, "lora +40.50 ± 0.00 +34.50 "), 1u) << table;
  const Json j = to_json(c);
  EXPECT_EQ(j.at("lower_is_better"), true);
  EXPECT_EQ(j.at("rows")[0].at("also_mean"), 34.5);
  EXPECT_EQ(j.at("base").at("also_metrics").at("perplexity"), 30.25);
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
