// Ops that PyTorch does not have, from one table: the cpu kernel against the definition in double,
// the gradient against finite differences, and what each promises.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "autograd/evaluate.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "core/random.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

struct Row {
  const char* name;
  Shape x;  // of the input that is differentiated
  std::function<Value(Builder&, Value x, Value index, Value rng)> build;
};

const int64_t kIndex[] = {1, 4, 5, 11, 12, 40};

const std::vector<Row>& rows() {
  static const std::vector<Row> table = {
      {"sparse_add_values",
       {6},
       [](Builder& b, Value x, Value index, Value) {
         return ops::sparse_add(b, b.constant(2, {3, 4}), x, index, 1);
       }},
      {"sparse_add_weight",
       {3, 4},
       [](Builder& b, Value x, Value index, Value) {
         return ops::sparse_add(b, x, b.constant(0.5, {6}), index, 1);
       }},
      {"sparse_gather",
       {3, 4},
       [](Builder& b, Value x, Value index, Value) {
         return b.node("sparse_gather", {x, index}, Attrs::of(SparseAttrs{1}));
       }},
      {"hard_concrete_drawn",
       {5, 7},
       [](Builder& b, Value x, Value, Value rng) {
         return ops::hard_concrete(b, x, rng, -0.1, 1.1, 3);
       }},
      {"hard_concrete_median",
       {5, 7},
       [](Builder& b, Value x, Value, Value) {
         return ops::hard_concrete(b, x, {}, -1.5, 1.5, 3);
       }},
      {"fastfood_wider",
       {13},
       [](Builder& b, Value x, Value, Value) { return ops::fastfood(b, x, 100, 1, 2); }},
      {"fastfood_narrower",
       {40},
       [](Builder& b, Value x, Value, Value) { return ops::fastfood(b, x, 17, 1, 2); }},
      {"fastfood_blocks",
       {33},
       [](Builder& b, Value x, Value, Value) { return ops::fastfood(b, x, 40000, 5, 6); }},
      {"fastfood_adjoint",
       {100},
       [](Builder& b, Value x, Value, Value) {
         const Value y = ops::fastfood(b, b.constant(1, {13}), 100, 1, 2);
         const Node n = b.graph().node(y.node);
         return b.node("fastfood_adjoint", {x, n.inputs[1], n.inputs[2], n.inputs[3]}, n.attrs);
       }},
  };
  return table;
}

class Subspace : public ::testing::TestWithParam<Row> {
 protected:
  Subspace() {
    Builder b;
    const Value x = b.input("x", DType::f32, GetParam().x);
    const Value y =
        GetParam().build(b, x, b.input("index", DType::i64, {6}), b.input("rng", DType::i64, {2}));
    const Value g = b.input("g", DType::f32, b.shape(y));
    b.output("y", y);
    const Value grad = gradient(b, {&y, 1}, {&g, 1}, {&x, 1})[0];
    b.output("grad", grad);
    graph_ = b.finish();
    const int64_t rng[] = {11, 5};
    inputs_ = {{"x", random(GetParam().x, 1)},
               {"g", random(graph_.type(graph_.output("y")).shape, 2)},
               {"index", Tensor::from<int64_t>({6}, kIndex)},
               {"rng", Tensor::from<int64_t>({2}, rng)}};
  }

  static Tensor random(const Shape& shape, uint64_t seed) {
    return draw(Init::normal(1), {DType::f32, shape}, seed, "x");
  }

  double loss(const Tensor& x) const {
    Inputs inputs = inputs_;
    inputs["x"] = x;
    const Tensor y = evaluate(graph_, inputs, {}, Backend::ref).outputs.at("y");
    const Tensor g = inputs.at("g").cast(DType::f64);
    return std::inner_product(y.span<double>().begin(), y.span<double>().end(),
                              g.span<double>().begin(), 0.0);
  }

  Graph graph_;
  Inputs inputs_;
};

TEST_P(Subspace, CpuEqualsDefinition) {
  const Evaluation want = evaluate(graph_, inputs_, {}, Backend::ref);
  const Evaluation got = evaluate(graph_, inputs_, {});
  for (const auto& [name, t] : want.outputs) {
    EXPECT_EQ(mismatch(got.outputs.at(name), t.cast(DType::f32), 1e-5, 2e-6), "") << name;
  }
}

TEST_P(Subspace, GradientEqualsDifferences) {
  const Tensor x = inputs_.at("x").cast(DType::f64);
  const Tensor grad = evaluate(graph_, inputs_, {}, Backend::ref).outputs.at("grad");
  Tensor plus = x.clone(), minus = x.clone();
  double want = 0;
  const double h = 1e-6;
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double u = RandomStream(3, 0).normal(static_cast<uint64_t>(i));
    plus.data<double>()[i] += h * u;
    minus.data<double>()[i] -= h * u;
    want += u * grad.data<double>()[i];
  }
  EXPECT_NEAR((loss(plus) - loss(minus)) / (2 * h), want, 1e-6 * (1 + std::fabs(want)));
}

INSTANTIATE_TEST_SUITE_P(Table, Subspace, ::testing::ValuesIn(rows()),
                         [](const auto& row) { return row.param.name; });

Tensor run(const std::function<Value(Builder&)>& build) {
  Builder b;
  b.output("y", build(b));
  return evaluate(b.finish(), {}, {}, Backend::ref).outputs.at("y");
}

TEST(Fastfood, KeepsLengthsOnAverage) {
  double ratio = 0;
  constexpr int kDraws = 200;
  for (int seed = 0; seed < kDraws; ++seed) {
    const Tensor y =
        run([&](Builder& b) { return ops::fastfood(b, b.constant(1, {9}), 77, seed, 4); });
    for (double v : y.span<double>()) ratio += v * v / 9;
  }
  EXPECT_NEAR(ratio / kDraws, 1, 0.1);  // the sum of squares of one draw deviates by about 0.4
}

// A position list may come from a damaged file: nothing outside of the tensor is touched.
TEST(SparseAdd, IgnoresPositionsOutside) {
  Builder b;
  const Value index = b.input("index", DType::i64, {4});
  b.output("y", ops::sparse_add(b, b.constant(0, {3}), b.constant(1, {4}), index, 0));
  const int64_t wild[] = {2, -7, 1, int64_t{1} << 60};
  const Tensor y =
      evaluate(b.finish(), {{"index", Tensor::from<int64_t>({4}, wild)}}, {}).outputs.at("y");
  for (float v : y.span<float>()) EXPECT_TRUE(v == 0 || v == 1);
}

TEST(HardConcrete, StepsDrawAnew) {
  Builder b;
  const Value rng = b.input("rng", DType::i64, {2});
  b.output("y", ops::hard_concrete(b, b.constant(0, {1000}), rng, -1.5, 1.5, 3));
  const Graph g = b.finish();
  auto at = [&](int64_t step) {
    const int64_t values[] = {1, step};
    return evaluate(g, {{"rng", Tensor::from<int64_t>({2}, values)}}, {}).outputs.at("y");
  };
  EXPECT_EQ(mismatch(at(4), at(4), 0, 0), "");
  EXPECT_NE(mismatch(at(4), at(5), 0, 0), "");
  // P(z = 0) = P(sigmoid(logit u) < 1/2) = 1/2 for these bounds.
  const Tensor drawn = at(4);
  const auto z = drawn.span<float>();
  EXPECT_NEAR(static_cast<double>(std::ranges::count(z, 0.0f)), 500, 60);
}

}  // namespace
}  // namespace graft::testing
