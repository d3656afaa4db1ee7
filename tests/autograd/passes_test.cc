// What the passes promise beyond equal results: what they merge and what they leave, and that a
// rewrite can be followed through them.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "autograd/evaluate.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/common_subexpressions.h"
#include "autograd/passes/dead_code.h"
#include "autograd/planner.h"
#include "tests/support/golden.h"

namespace graft {
namespace {

int64_t count(const Graph& graph, std::string_view op) {
  return std::ranges::count_if(graph.nodes(), [&](const Node& n) { return n.op->name == op; });
}

Value weight(Builder& b, const std::string& name, const Shape& shape) {
  return b.param({.name = name, .type = {DType::f32, shape}});
}

struct Merge {
  const char* name;
  const char* op;  // counted in the result
  int64_t before, after;
  std::function<void(Builder&, Value x)> build;
  bool plannable = true;  // nothing is updated twice
};

std::vector<Merge> merges() {
  return {
      {"equal nodes", "tanh", 2, 1,
       [](Builder& b, Value x) { b.output("y", ops::add(b, ops::tanh(b, x), ops::tanh(b, x))); }},
      {"chains of any depth", "tanh", 4, 2,
       [](Builder& b, Value x) {
         const auto twice = [&] { return ops::tanh(b, ops::tanh(b, x)); };
         b.output("y", ops::add(b, twice(), twice()));
       }},
      {"other attributes", "scale", 2, 2,
       [](Builder& b, Value x) {
         b.output("y", ops::add(b, ops::scale(b, x, 2), ops::scale(b, x, 3)));
       }},
      {"other operands", "sub", 2, 2,
       [](Builder& b, Value x) {
         const Value y = ops::tanh(b, x);
         b.output("y", ops::add(b, ops::sub(b, x, y), ops::sub(b, y, x)));
       }},
      {"outputs of a node keep their index", "max", 2, 1,
       [](Builder& b, Value x) {
         b.output("value", ops::max(b, x, 0).first);
         b.output("index", ops::max(b, x, 0).second);
       }},
      {"draws stay two, even of one stream", "dropout", 2, 2,
       [](Builder& b, Value x) {
         const Value rng = b.input("rng", DType::i64, {2});
         const auto draw = [&] { return ops::dropout(b, x, rng, 0.5, 1); };
         b.output("y", ops::add(b, draw(), draw()));
       }},
      {"backward reads what forward computed", "tanh", 2, 1,
       [](Builder& b, Value x) {
         b.output("y", ops::tanh(b, x));
         b.phase = Phase::backward;
         b.output("dy", ops::neg(b, ops::tanh(b, x)));
       }},
      {"micro-batches do not keep values for each other", "tanh", 3, 2,
       [](Builder& b, Value) {
         const Value w = weight(b, "w", {4});
         b.output("a", ops::add(b, ops::tanh(b, w), ops::tanh(b, w)));
         b.part = 1;
         b.output("b", ops::tanh(b, w));
       }},
      {"updates stay two", "increment", 2, 2,
       [](Builder& b, Value) {
         const Value step = b.param({.name = "step", .type = {DType::i64, {}}});
         b.output("a", b.node("increment", {step}));
         b.output("b", b.node("increment", {step}));
       },
       false},
      // One copy is counted up in place, so merged with the other it would have to be read before
      // and after.
      {"what an update overwrites stays apart", "max", 2, 2,
       [](Builder& b, Value x) {
         const Value a = ops::max(b, x, 0).second, c = ops::max(b, x, 0).second;
         const Value next = b.node("increment", {{a.node, 1}});
         b.output("old", ops::cast(b, {c.node, 1}, DType::f32));
         b.output("new", next);
       }},
  };
}

TEST(CommonSubexpressions, MergesEqualWorkAndNothingElse) {
  for (const Merge& m : merges()) {
    SCOPED_TRACE(m.name);
    Builder b;
    m.build(b, b.input("x", DType::f32, {4}));
    const Graph graph = b.finish();
    EXPECT_EQ(count(graph, m.op), m.before);
    const Graph merged = common_subexpressions(graph);
    EXPECT_EQ(count(merged, m.op), m.after);
    EXPECT_EQ(graph.outputs().size(), merged.outputs().size());
    if (m.plannable) plan(merged, {.backend = Backend::ref});
  }
}

TEST(CommonSubexpressions, ResultsAssignmentsAndMarksFollow) {
  Builder b;
  const Value w = weight(b, "w", {4});
  const Value first = ops::tanh(b, w), second = ops::tanh(b, w);
  b.mark_reparametrized("w", second);
  b.mark(Role::head, second);
  b.output("y", second);
  b.output("z", first);
  b.assign("w", second);
  const Graph g = common_subexpressions(b.finish());
  EXPECT_EQ(g.output("y"), g.output("z"));
  EXPECT_EQ(g.assignments()[0].second, g.output("z"));
  ASSERT_EQ(g.marks().size(), 2u);
  EXPECT_EQ(g.marks(Role::reparametrized)[0].value, g.output("z"));
  EXPECT_EQ(g.marks(Role::head)[0].value, g.output("z"));
}

// Each level reads the one below twice: two to the sixtieth paths.
TEST(CommonSubexpressions, DiamondsCostTheirNodesNotTheirPaths) {
  constexpr int kDepth = 60;
  Builder b;
  Value left = b.input("x", DType::f32, {4}), right = left;
  for (int i = 0; i < kDepth; ++i) {
    const Value l = ops::add(b, left, right), r = ops::add(b, left, right);
    left = l;
    right = r;
  }
  b.output("y", ops::add(b, left, right));
  EXPECT_EQ(count(common_subexpressions(b.finish()), "add"), kDepth + 1);
}

// c (x W^T + b) where it should, and should not, become (c x) W^T + c b.
TEST(CheapForms, FactorsStandBeforeThinProducts) {
  struct Row {
    const char* name;
    int64_t in, out;
    bool moves;
    std::function<Value(Builder&, Value product)> scaled;
  };
  const auto factor = [](Shape shape) {
    return [shape](Builder& b, Value y) { return ops::mul(b, y, weight(b, "c", shape)); };
  };
  const std::vector<Row> rows = {
      {"one number", 3, 8, true, factor({1})},
      {"a scalar on the left", 3, 8, true,
       [](Builder& b, Value y) { return ops::mul(b, weight(b, "c", {}), y); }},
      {"one for each example", 3, 8, true, factor({2, 1, 1})},
      {"one for each token", 3, 8, true, factor({5, 1})},
      {"behind dropout and a scale", 3, 8, true,
       [](Builder& b, Value y) {
         y = ops::dropout(b, ops::scale(b, y, 3), b.input("rng", DType::i64, {2}), 0.4, 7);
         return ops::mul(b, y, weight(b, "c", {1}));
       }},
      {"the product is not thin", 8, 3, false, factor({1})},
      {"one for each feature", 3, 8, false, factor({8})},
      {"the factor has more rows", 3, 8, false, factor({4, 2, 5, 1})},
      {"another reader", 3, 8, false,
       [](Builder& b, Value y) { return ops::add(b, y, ops::mul(b, y, weight(b, "c", {1}))); }},
  };
  for (const Row& r : rows) {
    for (const bool biased : {true, false}) {
      SCOPED_TRACE(fmt::format("{}, {}", r.name, biased ? "with a bias" : "without"));
      Builder b;
      const Value x = b.input("x", DType::f32, {2, 5, r.in});
      const Value y = ops::linear(b, x, weight(b, "w", {r.out, r.in}),
                                  biased ? weight(b, "b", {r.out}) : Value{});
      b.output("y", r.scaled(b, y));
      const Graph plain = b.finish(), cheap = cheap_forms(plain);
      const auto product = std::ranges::find(cheap.nodes(), std::string_view("linear"),
                                             [](const Node& n) { return n.op->name; });
      ASSERT_NE(product, cheap.nodes().end());
      EXPECT_EQ(cheap.node(product->inputs[0].node).op->name, r.moves ? "mul" : "input");
      ParamStore params;
      for (const Param& p : plain.params())
        params.set(p.name, draw(Init::normal(1), p.type, 5, p.name));
      const Inputs inputs = {{"x", draw(Init::normal(1), {DType::f32, {2, 5, r.in}}, 1, "x")},
                             {"rng", Tensor::from<int64_t>({2}, std::vector<int64_t>{3, 4})}};
      const Tensor want = evaluate(plain, inputs, params, Backend::ref).outputs.at("y"),
                   got = evaluate(cheap, inputs, params, Backend::ref).outputs.at("y");
      EXPECT_EQ(testing::mismatch(got, want, 1e-12, 1e-12), "");
    }
  }
}

// y = x W^T + b with W + 2 U V in the weight's place, then in the cheap form.
TEST(Deltas, FollowARewriteThroughAPass) {
  Builder base;
  const Value x = base.input("x", DType::f32, {64, 16}), w = weight(base, "w", {16, 16});
  base.output("y", ops::relu(base, ops::linear(base, x, w)));
  const Graph built = base.finish();

  Builder rewrite(built);
  const Value to = rewrite.insert_after(built.param_value("w"), [](Builder& b, Value v) {
    const Value left = weight(b, "u", {16, 2}),
                product = ops::matmul(b, left, weight(b, "v", {2, 16}));
    return ops::add(b, v, ops::scale(b, product, 2));
  });
  rewrite.mark_reparametrized("w", to);
  rewrite.param_ref("w").trainable = true;
  Delta first, second;
  const Graph adapted = rewrite.finish(&first);
  const Graph cheap = cheap_forms(adapted, &second);
  const Delta both = then(first, second);

  const auto old_op = [](const Graph& g, const Graph& before, const Delta& delta) {
    std::vector<std::string> kept;
    for (size_t i = 0; i < g.nodes().size(); ++i) {
      if (delta.origin[i] < 0) continue;
      EXPECT_EQ(before.node(delta.origin[i]).op, g.nodes()[i].op);
      kept.emplace_back(g.nodes()[i].op->name);
    }
    return kept;
  };
  const std::vector<std::string> all = {"input", "param", "linear", "relu"};
  EXPECT_EQ(old_op(adapted, built, first), all);
  // The product of the base model is still that node; relu reads the sum instead.
  EXPECT_EQ(old_op(cheap, built, both), all);
  EXPECT_EQ(both.added.size() + all.size(), cheap.nodes().size());
  const auto relu = static_cast<int32_t>(cheap.nodes().size()) - 1;
  EXPECT_NE(std::ranges::find(both.rewired, Use{relu, 0}), both.rewired.end());
  EXPECT_EQ(both.new_params, (std::vector<std::string>{"u", "v"}));
  EXPECT_EQ(both.unfrozen, (std::vector<std::string>{"w"}));
}

// A use that a rewrite changed and then dropped is not reported of some other node.
TEST(Deltas, DroppedNodesAreNotRewired) {
  Builder base;
  const Value x = base.input("x", DType::f32, {4}), y = ops::tanh(base, x);
  base.output("z", ops::neg(base, y));
  base.output("y", y);
  const Graph built = base.finish();
  const int32_t z = built.output("z").node;
  for (bool at_once : {true, false}) {
    Builder b(built);
    b.set_input({z, 0}, ops::relu(b, built.output("y")));
    b.keep_outputs({"y"});
    Delta delta;
    if (at_once) {
      std::vector<bool> live(b.graph().nodes().size(), true);
      live[static_cast<size_t>(z)] = false;
      b.drop_dead(live);
      b.finish(&delta);
    } else {
      finish_live(b, &delta);
    }
    EXPECT_EQ(std::ranges::count(delta.origin, z), 0);
    EXPECT_TRUE(delta.rewired.empty());
  }
}

}  // namespace
}  // namespace graft
