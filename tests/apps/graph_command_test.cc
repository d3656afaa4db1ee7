// graft graph: a model and what methods make of it, to a file, from a config alone.
#include "apps/graph_command.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "core/atomic_file.h"
#include "core/error.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

class GraphCommand : public ::testing::Test {
 protected:
  GraphCommand()
      : folder_(std::filesystem::temp_directory_path() / fmt::format("graft-draw-{}", ::getpid())) {
    make_folders(folder_);
    options_.model = golden_dir() + "/models/bert_cls/config.json";
    options_.output = folder_ + "/graph.dot";
  }
  ~GraphCommand() override { std::filesystem::remove_all(folder_); }

  std::string error_of(const std::function<void(GraphCommandOptions&)>& change) const {
    GraphCommandOptions o = options_;
    change(o);
    try {
      draw_graph(o);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  std::string folder_;
  GraphCommandOptions options_;
};

TEST_F(GraphCommand, CountsWhatAMethodDid) {
  struct Row {
    const char* method;
    bool adds, rewires, trains, reparametrizes;
  };
  for (const Row& row : {Row{"", false, false, false, false},
                         {"head", false, false, true, false},
                         {"lora", true, true, true, true},
                         {"houlsby", true, true, true, false},
                         {"bitfit", false, false, true, false}}) {
    SCOPED_TRACE(row.method);
    options_.method = row.method;
    const Json j = draw_graph(options_);
    const std::string dot = read_file(options_.output);
    EXPECT_GT(j.at("nodes"), 50);
    EXPECT_EQ(j.at("backward"), 0);
    EXPECT_EQ(j.at("added") > 0, row.adds);
    EXPECT_EQ(j.at("rewired") > 0, row.rewires);
    EXPECT_EQ(j.at("trainable") > 0, row.trains);
    EXPECT_EQ(dot.find(">in place of a weight<") != std::string::npos, row.reparametrizes);
    EXPECT_NE(
        dot.find(fmt::format("<B>{}bert, ", *row.method ? row.method + std::string(" on ") : "")),
        std::string::npos);
  }
}

TEST_F(GraphCommand, BackwardOfWhatIsTrainedAlone) {
  options_.backward = true;
  options_.method = "full";
  const Json full = draw_graph(options_);
  options_.method = "head";
  const Json head = draw_graph(options_);
  EXPECT_GT(head.at("backward"), 0);
  EXPECT_LT(head.at("backward").get<int>(), full.at("backward").get<int>() / 4);
  const std::string dot = read_file(options_.output);
  EXPECT_NE(dot.find("cluster_backward"), std::string::npos);
  EXPECT_EQ(dot.find("layer_norm_dx"), std::string::npos);
}

TEST_F(GraphCommand, TextMarksWhatIsNew) {
  options_.output = folder_ + "/graph.txt";
  options_.task_less = true;
  draw_graph(options_);
  EXPECT_EQ(read_file(options_.output).rfind("param embeddings.", 0), 0u);
  options_.method = "lora";
  draw_graph(options_);
  const std::string text = read_file(options_.output);
  EXPECT_NE(text.find("\n+ param encoder.layer.0.attention.self.query.lora_A.weight"),
            std::string::npos);
  EXPECT_NE(text.find("\n~ %"), std::string::npos);
  EXPECT_EQ(text.find("classifier"), std::string::npos);
}

TEST_F(GraphCommand, RefusesWhatItCannotDraw) {
  EXPECT_EQ(error_of([](auto& o) { o.output = "graph.png"; }),
            "a graph is drawn to FILE.svg, FILE.dot or FILE.txt, not to 'graph.png'");
  EXPECT_NE(error_of([](auto& o) { o.backward = true; }).find("--method"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) {
              o.method = "lora";
              o.backward = o.task_less = true;
            }).find("needs a loss"),
            std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.detail = "some"; }).find("known: blocks, all"),
            std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.method = "lorra"; }).find("no method 'lorra'"),
            std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.model = "/nowhere/config.json"; }).find("/nowhere"),
            std::string::npos);
}

// With Graphviz a picture; without it, which package to install, and no file.
TEST_F(GraphCommand, SvgNeedsGraphviz) {
  options_.method = "lora";
  options_.output = folder_ + "/graph.svg";
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", folder_.c_str(), 1);
  const std::string error = error_of([](auto&) {});
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_NE(error.find("install the package 'graphviz'"), std::string::npos) << error;
  EXPECT_FALSE(std::filesystem::exists(options_.output));
  if (std::system("dot -V > /dev/null 2>&1") != 0) GTEST_SKIP() << "Graphviz is not installed";
  draw_graph(options_);
  const std::string svg = read_file(options_.output);
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
  EXPECT_NE(svg.find("lora_A.weight"), std::string::npos);
  try {
    render_svg("digraph {");
    ADD_FAILURE() << "accepted";
  } catch (const DeviceError& e) {
    EXPECT_NE(std::string(e.what()).find("syntax error"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace graft::testing
