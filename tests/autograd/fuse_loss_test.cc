// When a head and its loss become one op, what the op then holds, and that it computes the same.
#include "autograd/passes/fuse_loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "autograd/evaluate.h"
#include "autograd/gradient.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "core/parallel.h"
#include "tests/support/golden.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/targets.h"

namespace graft::testing {
namespace {

// 9 MB of logits.
constexpr int64_t kBatch = 2, kLength = 600, kFeatures = 8, kClasses = 2'000;

struct Row {
  const char* name;
  // From what the linear layer gives, [B, T, V], to logits [N, V].
  std::function<Value(Builder&, Value)> between;
  bool fused = true;
  double scale = 1, softcap = 0;
  bool bias = true;
};

Value flat(Builder& b, Value z) {
  return ops::reshape(b, z, {b.shape(z).elements() / kClasses, kClasses});
}

std::vector<Row> rows() {
  return {
      {"plain", flat},
      {"no_bias", flat, true, 1, 0, false},
      {"scaled", [](Builder& b, Value z) { return flat(b, ops::scale(b, z, 0.25)); }, true, 0.25},
      {"shifted", [](Builder& b, Value z) { return flat(b, ops::slice(b, z, 1, 0, kLength - 1)); }},
      {"capped",
       [](Builder& b, Value z) {
         return flat(b, ops::scale(b, ops::tanh(b, ops::scale(b, z, 1 / 30.0)), 30));
       },
       true, 1, 30},
      {"capped_and_scaled",
       [](Builder& b, Value z) {
         const Value y = ops::scale(b, ops::scale(b, flat(b, z), 0.5), 1 / 3.0);
         return ops::scale(b, ops::tanh(b, y), 3);
       },
       true, 0.5, 3},
      {"scaled_cap", [](Builder& b, Value z) { return ops::scale(b, ops::tanh(b, flat(b, z)), 5); },
       true, 5, 5},
      {"named_result",
       [](Builder& b, Value z) {
         b.output("logits", z);
         return flat(b, z);
       },
       false},
      {"read_twice",
       [](Builder& b, Value z) {
         b.output("largest", ops::max(b, z, 2).first);
         return flat(b, z);
       },
       false},
      {"another_function", [](Builder& b, Value z) { return flat(b, ops::relu(b, z)); }, false},
      {"negative_cap",
       [](Builder& b, Value z) { return ops::scale(b, ops::tanh(b, flat(b, z)), -2); }, false},
      {"classes_apart",
       [](Builder& b, Value z) {
         return flat(b, ops::slice(b, ops::concat(b, {z, z}, 2), 2, 0, kClasses));
       },
       false},
      {"fits_a_chunk", [](Builder& b, Value z) { return flat(b, ops::slice(b, z, 1, 0, 9)); },
       false},
  };
}

class FuseLoss : public ::testing::TestWithParam<Row> {
 protected:
  // The loss; with gradients of what is trainable where they are wanted.
  Graph graph(bool fuse, bool gradients, bool train_weight = true) {
    Builder b;
    const auto param = [&](const char* name, const Shape& shape, bool trainable) {
      return b.param({.name = name,
                      .type = {DType::f32, shape},
                      .trainable = trainable,
                      .init = Init::normal(0.5)});
    };
    const Value h = ops::mul(b, b.input("x", DType::f32, {kBatch, kLength, kFeatures}),
                             param("norm", {kFeatures}, true));
    const Value z = ops::linear(b, h, param("w", {kClasses, kFeatures}, train_weight),
                                GetParam().bias ? param("b", {kClasses}, train_weight) : Value{});
    const Value logits = GetParam().between(b, z);
    Value loss = ops::cross_entropy(b, logits, b.input("target", DType::i64, {b.shape(logits)[0]}));
    if (fuse) loss = fuse_loss(b, loss);
    if (gradients) {
      for (const auto& [name, g] : gradient(b, loss)) b.output("grad/" + name, g);
    }
    b.output("loss", loss);
    return b.finish();
  }
  Inputs inputs(const Graph& g) {
    Inputs in = {{"x", floats({kBatch, kLength, kFeatures})}};
    for (const Node& n : g.nodes()) {
      if (n.op->name == "input" && n.attrs.as<NameAttrs>().name == "target")
        in["target"] = ints(n.outputs[0].shape, -1, kClasses);
    }
    return in;
  }
};

const Node* find(const Graph& g, std::string_view op) {
  const auto at = std::ranges::find(g.nodes(), op, [](const Node& n) { return n.op->name; });
  return at == g.nodes().end() ? nullptr : &*at;
}

TEST_P(FuseLoss, WhereNothingElseReadsTheLogits) {
  const Graph g = fuse_loss(graph(false, false));
  const Node* n = find(g, "linear_cross_entropy");
  ASSERT_EQ(n != nullptr, GetParam().fused) << to_text(g);
  if (n == nullptr) return;
  EXPECT_EQ(find(g, "linear"), nullptr);
  EXPECT_EQ(find(g, "cross_entropy"), nullptr);
  EXPECT_DOUBLE_EQ(n->attrs.as<HeadLossAttrs>().scale, GetParam().scale);
  EXPECT_DOUBLE_EQ(n->attrs.as<HeadLossAttrs>().softcap, GetParam().softcap);
}

// The products of all chunks are the chains of the whole product; what differs is one rounding of a
// probability.
TEST_P(FuseLoss, SameLossAndGradients) {
  const Graph plain = graph(false, true), fused = graph(true, true);
  const Inputs in = inputs(plain);
  ParamStore store;
  store.initialize(plain, 3);
  const Evaluation want = evaluate(plain, in, store), got = evaluate(fused, in, store);
  ASSERT_EQ(want.outputs.size(), got.outputs.size());
  for (const auto& [name, t] : want.outputs) {
    double largest = 0;
    for (const float x : t.span<float>()) largest = std::max(largest, std::fabs(double{x}));
    EXPECT_EQ(mismatch(got.outputs.at(name), t, 2e-6, 2e-6 * largest), "") << name;
  }
}

// A frozen weight has no gradient anywhere, and the plan holds a chunk of logits, not all.
TEST_P(FuseLoss, FrozenWeightHasNoGradient) {
  const Graph g = optimize(graph(true, true, false));
  const size_t logits = static_cast<size_t>(kBatch * kLength * kClasses) * sizeof(float);
  const Node* n = find(g, "linear_cross_entropy_backward");
  ASSERT_EQ(n != nullptr, GetParam().fused);
  if (n == nullptr) return;
  EXPECT_EQ(n->outputs[0].shape[1], kFeatures);
  EXPECT_EQ(n->outputs[1].shape, Shape{0});
  EXPECT_EQ(n->outputs[2].shape, Shape{0});
  const Program p = plan(g);
  EXPECT_LT(p.arena_bytes, logits * 7 / 10);
}

TEST_P(FuseLoss, ThreadsDoNotChangeBits) {
  const Graph g = graph(true, true);
  const Inputs in = inputs(g);
  ParamStore store;
  store.initialize(g, 3);
  std::map<std::string, Tensor> alone;
  for (const int threads : {1, 2, 3}) {
    const ThreadScope scope(threads);
    const Evaluation got = evaluate(g, in, store);
    if (threads == 1) alone = got.outputs;
    for (const auto& [name, t] : got.outputs)
      EXPECT_EQ(std::memcmp(t.bytes(), alone.at(name).bytes(), t.size_bytes()), 0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Table, FuseLoss, ::testing::ValuesIn(rows()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace graft::testing
