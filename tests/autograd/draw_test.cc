// Pictures of graphs: what is drawn, what is folded, and that the text is a graph.
#include "autograd/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "autograd/gradient.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "tests/support/random_graph.h"

namespace graft::testing {
namespace {

Value weight(Builder& b, const Shape& shape, const char* name = "weight") {
  return b.param({.name = b.path(name), .type = {DType::f32, shape}});
}

// A lookup of three steps, then four blocks h = h + tanh(h W^T). With a skip the last one adds what
// the first one gave.
Graph blocks(bool skip = false) {
  Builder b;
  Value h, first;
  {
    const auto scope = b.scope("embed");
    const Value ids = b.input("ids", DType::i64, {2, 3});
    h = ops::tanh(b, ops::scale(b, ops::embedding(b, ids, weight(b, {10, 4})), 3));
  }
  for (int i = 0; i < 4; ++i) {
    const auto scope = b.scope(fmt::format("block.{}", i));
    Value y;
    {
      const auto dense = b.scope("dense");
      y = ops::linear(b, h, weight(b, {4, 4}));
    }
    const Value old = skip && i == 3 ? first : h;
    h = ops::add(b, old, ops::reshape(b, ops::tanh(b, ops::reshape(b, y, {6, 4})), {2, 3, 4}));
    if (i == 0) first = h;
  }
  b.output("y", h);
  return b.finish();
}

struct Rewritten {
  Graph graph;
  Delta delta;
};

// W + U V in the place of the weights of these blocks.
Rewritten adapted(const std::vector<int>& which) {
  Builder b(blocks());
  for (int i : which) {
    const std::string scope = fmt::format("block.{}.dense", i);
    b.set_path(scope);
    const Value w = b.insert_after(b.param_value(scope + ".weight"), [](Builder& c, Value v) {
      Param p{.name = c.path("u"), .type = {DType::f32, {4, 1}}, .trainable = true};
      const Value u = c.param(p);
      p.name = c.path("v");
      p.type.shape = {1, 4};
      return ops::add(c, v, ops::matmul(c, u, c.param(p)));
    });
    b.mark_reparametrized(scope + ".weight", w);
  }
  b.set_path("");
  Rewritten r;
  r.graph = b.finish(&r.delta);
  return r;
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Draw, FoldsWhatIsAlikeAndWhatIsUnchanged) {
  struct Row {
    const char* name;
    Rewritten r;
    std::vector<const char*> boxes;  // title and line below it
    size_t linears, rewired;
  };
  const std::vector<Row> rows = {
      {"base", {blocks(), {}}, {"block.1 … 3", "×3 as block.0"}, 1, 0},
      {"a skip", {blocks(true), {}}, {">1 … 2<", "×2 as block.0"}, 2, 0},
      {"all", adapted({0, 1, 2, 3}), {"block.1 … 3", "×3 as block.0", ">embed<"}, 1, 1},
      {"last", adapted({3}), {">block.0 … 2<", ">embed<"}, 1, 1},
      {"middle",
       adapted({1, 2}),
       {">block.2<", ">as block.1<", ">block.0<", ">block.3<", ">embed<"},
       1,
       1},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const std::string dot = to_dot(row.r.graph, row.r.delta);
    for (const char* box : row.boxes) EXPECT_EQ(occurrences(dot, box), 1u) << box << "\n" << dot;
    EXPECT_EQ(occurrences(dot, "<B>linear</B>"), row.linears) << dot;
    EXPECT_EQ(occurrences(dot, "penwidth=2.2"), row.rewired);
    EXPECT_EQ(occurrences(dot, "<B>reshape</B>"), 0u);
    const std::string all = to_dot(row.r.graph, row.r.delta, {.detail = Detail::all});
    EXPECT_EQ(occurrences(all, "<B>linear</B>"), 4u);
    EXPECT_EQ(occurrences(all, "<B>reshape</B>"), 8u);
    EXPECT_EQ(occurrences(all, "shape=box"), 0u);
  }
}

TEST(Draw, SaysWhatARewriteDid) {
  const Rewritten r = adapted({0, 1, 2, 3});
  const std::string dot = to_dot(r.graph, r.delta, {.title = "A & B"});
  EXPECT_NE(dot.find("<B>A &amp; B</B>"), std::string::npos);
  for (const char* word :
       {">frozen<", ">trainable<", ">added<", ">in place of a weight<", "rewired<"})
    EXPECT_EQ(occurrences(dot, word), 1u) << word;
  EXPECT_EQ(occurrences(to_dot(blocks()), ">added<"), 0u);
  const std::string text = to_text(r.graph, r.delta);
  EXPECT_EQ(occurrences(text, "\n+ param"), 8u);
  EXPECT_EQ(occurrences(text, "\n~ %"), 4u);
  EXPECT_EQ(static_cast<size_t>(std::ranges::count(text, '+')), 8 + r.delta.added.size());
}

TEST(Draw, BackwardRunsUpBesideForward) {
  Rewritten r = adapted({0, 1, 2, 3});
  Builder b(r.graph);
  const Value loss = ops::sum(b, b.graph().output("y"));
  b.output("loss", loss);
  for (const auto& [name, g] : gradient(b, loss)) b.output("grad/" + name, g);
  Delta joint;
  const Graph graph = b.finish(&joint);
  const std::string dot = to_dot(graph, then(r.delta, joint));
  EXPECT_EQ(occurrences(dot, "subgraph cluster_backward {"), 1u);
  EXPECT_GT(occurrences(dot, "dir=back"), 5u);
  EXPECT_GT(occurrences(dot, "style=dashed"), 2u);
  // The gradients of a block that is drawn, under their names in it; none of the folded ones.
  EXPECT_GE(occurrences(dot, "label=\"grad/u\""), 1u);
  EXPECT_EQ(occurrences(dot, "grad/block"), 0u) << dot;
}

// Items are declared once, edges connect declared items, braces close, and the same graph gives the
// same text.
TEST(Draw, TextOfRandomGraphsIsAGraph) {
  const std::regex item(R"(^ *((n|box|out)[0-9]+) \[)"), edge(R"(^ *(\w+) -> (\w+) \[)");
  for (uint64_t seed = 0; seed < 100 && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    const RandomGraph g = random_graph(seed);
    for (Detail detail : {Detail::blocks, Detail::all}) {
      const std::string dot = to_dot(g.step, {}, {.detail = detail});
      EXPECT_EQ(dot, to_dot(random_graph(seed).step, {}, {.detail = detail}));
      std::map<std::string, int> items;
      std::set<std::string> ends;
      std::istringstream lines(dot);
      std::smatch m;
      int depth = 0;
      for (std::string line; std::getline(lines, line);) {
        if (line.ends_with("{")) ++depth;
        if (line.ends_with("}")) --depth;
        if (std::regex_search(line, m, edge)) {
          ends.insert({m[1], m[2]});
        } else if (std::regex_search(line, m, item)) {
          ++items[m[1]];
        }
      }
      EXPECT_EQ(depth, 0);
      for (const auto& [id, times] : items) EXPECT_EQ(times, 1) << id;
      for (const std::string& id : ends) EXPECT_TRUE(items.contains(id)) << id;
      if (detail == Detail::blocks) continue;
      for (size_t i = 0; i < g.step.nodes().size(); ++i) {
        const bool drawn = g.step.nodes()[i].op->name != "param";
        EXPECT_EQ(items.contains(fmt::format("n{}", i)), drawn) << i;
      }
    }
  }
}

TEST(Draw, UnknownDetailIsRefused) {
  EXPECT_EQ(detail_of("all"), Detail::all);
  try {
    detail_of("some");
    ADD_FAILURE() << "accepted";
  } catch (const UsageError& e) {
    EXPECT_STREQ(e.what(), "there is no detail 'some'; known: blocks, all");
  }
}

}  // namespace
}  // namespace graft::testing
