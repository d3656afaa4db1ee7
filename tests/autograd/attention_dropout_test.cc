// Dropout of attention's probabilities: which are kept and how often, what remains of mean and
// spread, the gradient under a fixed mask.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "autograd/evaluate.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/param_store.h"
#include "core/error.h"
#include "core/random.h"
#include "tests/support/golden.h"
#include "tests/support/targets.h"

namespace graft::testing {
namespace {

constexpr int64_t kSeed = 11, kStep = 5;

Tensor rng_of(int64_t seed, int64_t step) {
  const int64_t rng[] = {seed, step};
  return Tensor::from<int64_t>({2}, rng);
}

Tensor normal(const Shape& shape, uint64_t seed) {
  return draw(Init::normal(1), {DType::f32, shape}, seed, "x");
}

// With V the identity, the output is the probabilities [B, H, T, S].
constexpr int64_t kB = 2, kH = 3, kT = 70, kS = 90;

Tensor probabilities(double rate, int64_t stream, const Tensor& rng, bool causal = false) {
  Builder b;
  const Value q = b.input("q", DType::f32, {kB, kH, kT, kS}),
              k = b.input("k", DType::f32, {kB, kH, kS, kS}),
              v = b.input("v", DType::f32, {kB, kH, kS, kS});
  b.output("p",
           ops::attention(
               b, q, k, v, {}, {},
               {.scale = 0.1, .causal = causal, .bthd = false, .dropout = rate, .stream = stream},
               b.input("rng", DType::i64, {2})));
  Tensor identity(DType::f32, {kB, kH, kS, kS});
  for (int64_t i = 0; i < identity.elements(); ++i)
    identity.data<float>()[i] = i / kS % kS == i % kS ? 1.0F : 0.0F;
  const Inputs inputs = {{"q", normal({kB, kH, kT, kS}, 1)},
                         {"k", normal({kB, kH, kS, kS}, 2)},
                         {"v", identity},
                         {"rng", rng}};
  return evaluate(b.finish(), inputs, {}).outputs.at("p");
}

bool same(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

class AttentionDropout : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if (!cpu_has(GetParam())) GTEST_SKIP() << "this CPU has no " << target_name(GetParam());
    scope_.emplace(GetParam());
  }
  std::optional<TargetScope> scope_;
};

// Number ((b H + h) T + i) S + j of the stream decides, as it would of a matrix that is stored.
TEST_P(AttentionDropout, KeepsWhatTheStreamSays) {
  for (const double rate : {0.1, 0.5}) {
    for (const bool causal : {false, true}) {
      const Tensor rng = rng_of(kSeed, kStep), all = probabilities(0, 0, rng, causal),
                   some = probabilities(rate, 3, rng, causal);
      const RandomStream random(kSeed, 3, kStep);
      const auto keep = static_cast<float>(1 / (1 - rate));
      for (int64_t i = 0; i < all.elements(); ++i) {
        const float p = all.data<float>()[i];
        const bool kept = random.uniform(static_cast<uint64_t>(i)) >= static_cast<float>(rate);
        ASSERT_NEAR(some.data<float>()[i], kept ? keep * p : 0, 4 * 0x1p-24 * keep * p) << i;
      }
    }
  }
}

TEST_P(AttentionDropout, KeepsMeanAndShare) {
  const Tensor all = probabilities(0, 0, rng_of(kSeed, kStep));
  const double n = static_cast<double>(all.elements());
  for (const double rate : {0.1, 0.3, 0.8}) {
    const Tensor some = probabilities(rate, 3, rng_of(kSeed, kStep));
    double kept = 0, difference = 0, variance = 0, squares = 0;
    for (int64_t i = 0; i < all.elements(); ++i) {
      const double p = static_cast<double>(all.data<float>()[i]),
                   d = static_cast<double>(some.data<float>()[i]) - p;
      kept += d > -p ? 1 : 0;
      difference += d;
      squares += d * d;
      variance += p * p * rate / (1 - rate);
    }
    // Four standard deviations.
    EXPECT_NEAR(kept / n, 1 - rate, 4 * std::sqrt(rate * (1 - rate) / n)) << rate;
    EXPECT_NEAR(difference, 0, 4 * std::sqrt(variance)) << rate;
    EXPECT_NEAR(squares / variance, 1, 0.1) << rate;
  }
}

TEST_P(AttentionDropout, DependsOnSeedStepAndStreamAlone) {
  const Tensor p = probabilities(0.3, 3, rng_of(kSeed, kStep));
  EXPECT_TRUE(same(p, probabilities(0.3, 3, rng_of(kSeed, kStep))));
  EXPECT_FALSE(same(p, probabilities(0.3, 4, rng_of(kSeed, kStep))));
  EXPECT_FALSE(same(p, probabilities(0.3, 3, rng_of(kSeed, kStep + 1))));
  EXPECT_FALSE(same(p, probabilities(0.3, 3, rng_of(kSeed + 1, kStep))));
}

std::string target_of(const ::testing::TestParamInfo<int64_t>& info) {
  return target_name(info.param);
}
INSTANTIATE_TEST_SUITE_P(Target, AttentionDropout, ::testing::ValuesIn(compiled_targets()),
                         target_of);

struct Row {
  const char* name;
  AttentionAttrs attrs;
  bool bias, keep;
};

class AttentionDropoutGradient : public ::testing::TestWithParam<Row> {};

// Along a random direction of each operand, in double; heads that share their keys.
TEST_P(AttentionDropoutGradient, EqualsDifferences) {
  const Row& row = GetParam();
  Builder b;
  const Shape q{2, 5, 4, 3}, k{2, 6, 2, 3}, bias{4, 5, 6};
  std::vector<Value> xs = {b.input("q", DType::f32, q), b.input("k", DType::f32, k),
                           b.input("v", DType::f32, k)};
  if (row.bias) xs.push_back(b.input("bias", DType::f32, bias));
  const Value keep = row.keep ? b.input("keep", DType::i64, {2, 6}) : Value{};
  const Value y = ops::attention(b, xs[0], xs[1], xs[2], row.bias ? xs[3] : Value{}, keep,
                                 row.attrs, b.input("rng", DType::i64, {2}));
  const Value g = b.input("g", DType::f32, q);
  b.output("loss", ops::sum(b, ops::mul(b, y, g)));
  const auto grads = gradient(b, {&y, 1}, {&g, 1}, xs);
  const std::vector<std::string> names = {"q", "k", "v", "bias"};
  for (size_t i = 0; i < xs.size(); ++i) b.output(names[i], grads[i]);
  const Graph graph = b.finish();
  const int64_t seen[] = {1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0};
  const Inputs at = {{"q", normal(q, 1)},      {"k", normal(k, 2)},
                     {"v", normal(k, 3)},      {"bias", normal(bias, 4)},
                     {"g", normal(q, 5)},      {"keep", Tensor::from<int64_t>({2, 6}, seen)},
                     {"rng", rng_of(kSeed, 1)}};
  const auto given = [&](const std::string& moved, double by, double& analytic,
                         const Tensor& grad) {
    Inputs inputs;
    for (const std::string& name : graph.input_names()) inputs[name] = at.at(name);
    Tensor x = at.at(moved).cast(DType::f64).clone();
    analytic = 0;
    for (int64_t i = 0; i < x.elements(); ++i) {
      const double u = RandomStream(9, 0).normal(static_cast<uint64_t>(i));
      x.data<double>()[i] += by * u;
      analytic += u * grad.data<double>()[i];
    }
    inputs[moved] = x;
    return evaluate(graph, inputs, {}, Backend::ref).outputs.at("loss").data<double>()[0];
  };
  Inputs inputs;
  for (const std::string& name : graph.input_names()) inputs[name] = at.at(name);
  const Evaluation want = evaluate(graph, inputs, {}, Backend::ref),
                   got = evaluate(graph, inputs, {});
  for (size_t i = 0; i < xs.size(); ++i) {
    const Tensor& grad = want.outputs.at(names[i]);
    const double h = 1e-6;
    double analytic = 0;
    const double up = given(names[i], h, analytic, grad),
                 down = given(names[i], -h, analytic, grad);
    EXPECT_NEAR((up - down) / (2 * h), analytic, 1e-7 * (1 + std::fabs(analytic))) << names[i];
    EXPECT_NE(analytic, 0) << names[i];
    EXPECT_EQ(mismatch(got.outputs.at(names[i]), grad.cast(DType::f32), 1e-5, 2e-6), "")
        << names[i];
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rows, AttentionDropoutGradient,
    ::testing::Values(
        Row{"plain", {.scale = 0.7, .dropout = 0.3, .stream = 2}, false, false},
        Row{"bias_and_keep", {.scale = 0.7, .dropout = 0.5, .stream = 2}, true, true},
        Row{"causal", {.scale = 0.7, .causal = true, .dropout = 0.3, .stream = 5}, true, false},
        Row{"softcap_and_window",
            {.scale = 0.7, .softcap = 1.5, .causal = true, .window = 3, .dropout = 0.3},
            false,
            true}),
    [](const auto& row) { return std::string(row.param.name); });

// Micro-batches draw their own masks; without dropout nothing changes.
TEST(AttentionDropoutParts, DrawTheirOwn) {
  const auto streams = [](double rate) {
    Builder model;
    const Value x = model.input("x", DType::f32, {1, 2, 1, 2});
    model.output("y", ops::attention(model, x, x, x, {}, {}, {.dropout = rate, .stream = 4},
                                     model.input("rng", DType::i64, {2})));
    const Graph part = model.finish();
    Builder b;
    std::vector<int64_t> found;
    for (b.part = 0; b.part < 2; ++b.part)
      found.push_back(b.graph()
                          .node(b.append(part, fmt::format("/{}", b.part))(part.output("y")).node)
                          .attrs.as<AttentionAttrs>()
                          .stream);
    return found;
  };
  EXPECT_EQ(streams(0)[0], streams(0)[1]);
  EXPECT_EQ(streams(0.1)[0], 4);
  EXPECT_NE(streams(0.1)[1], 4);
}

}  // namespace
}  // namespace graft::testing
