// AdamW with moments in 8 bits: which states it makes of which parameters, and where it leads
// beside AdamW with moments in floats.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/evaluate.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "nn/optimizer.h"
#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

struct Problem {
  Graph graph;
  ParamStore store;
};

// min |w - t|^2 weighted by row: from block to block the sizes of gradients differ by up to 1e5.
Problem weighted_squares(const std::string& kind) {
  Builder b;
  const Shape shape{24, 256};
  const Value w = b.param({.name = "w", .type = {DType::f32, shape}, .trainable = true});
  const Value g = ops::mul(b, ops::sub(b, w, b.input("target", DType::f32, shape)),
                           b.input("weight", DType::f32, {24, 1}));
  add_optimizer(b, {{"w", g}}, {.kind = kind}, {{{"w"}, {.lr = 0.01}, 0.01}}, 0);
  Problem p{b.finish(), {}};
  p.store.set("w", floats(shape, 1, 0, 0));
  p.store.initialize(p.graph, 0);
  return p;
}

TEST(Adam8bit, LeadsWhereAdamDoes) {
  Tensor weight = floats({24, 1}, 2, -4, 1);
  for (float& x : weight.span<float>()) x = std::pow(10.0f, x);
  const Inputs inputs = {{"target", floats({24, 256})}, {"weight", weight}};
  for (const Backend backend : {Backend::ref, Backend::cpu}) {
    Problem want = weighted_squares("adamw"), got = weighted_squares("adamw_8bit");
    for (int step = 0; step < 60; ++step) {
      for (Problem* p : {&want, &got}) {
        for (const auto& [name, value] : evaluate(p->graph, inputs, p->store, backend).assigned)
          p->store.set(name, value.cast(p->graph.param(name).type.dtype));
      }
    }
    double apart = 0, way = 0;
    const auto a = want.store.get("w").span<float>(), b = got.store.get("w").span<float>();
    for (size_t i = 0; i < a.size(); ++i) {
      apart += std::pow(static_cast<double>(a[i] - b[i]), 2);
      way += std::pow(static_cast<double>(a[i]), 2);
    }
    EXPECT_GT(way, 0.1 * static_cast<double>(a.size()) / 12);
    // A code stands for numbers that differ by some per cent.
    EXPECT_LT(std::sqrt(apart / way), 0.05) << name_of(backend);
    EXPECT_GT(apart, 0);
  }
}

// Five steps of AdamW in PyTorch whose moments went through quantize_blockwise (of doubles, where
// it takes the nearest code; of floats it approximates) and dequantize_blockwise of bitsandbytes
// 0.50.
TEST(Adam8bit, IsAdamWWithTheQuantizationOfBitsandbytes) {
  constexpr int64_t kCount = 4200;
  struct Row {
    int64_t at;
    float value;
    int first, second;  // codes
  };
  const Row rows[] = {{0, 0.9746701717376709f, 49, 248},      {1, 0.7453044056892395f, 146, 62},
                      {2, 0.15864214301109314f, 148, 14},     {100, 0.6037395596504211f, 70, 59},
                      {255, -0.8563176393508911f, 54, 248},   {256, -1.000962734222412f, 156, 62},
                      {257, -0.6805024743080139f, 149, 14},   {1000, -0.8614177107810974f, 70, 59},
                      {1001, -1.0101426839828491f, 100, 14},  {1002, -0.6953186392784119f, 51, 247},
                      {4095, 0.19361788034439087f, 220, 254}, {4198, -0.3500475585460663f, 183, 62},
                      {4199, 0.3362674117088318f, 159, 14}};
  Builder b;
  b.param({.name = "w", .type = {DType::f32, {kCount}}, .trainable = true});
  add_optimizer(b, {{"w", b.input("g", DType::f32, {kCount})}}, {.kind = "adamw_8bit"},
                {{{"w"}, {.lr = 0.01}, 0.1}}, 0);
  const Graph graph = b.finish();
  Tensor w(DType::f32, {kCount}), g(DType::f32, {kCount});
  for (int64_t i = 0; i < kCount; ++i)
    w.data<float>()[i] = static_cast<float>(std::cos(0.7 * static_cast<double>(i)));
  ParamStore store;
  store.set("w", w);
  store.initialize(graph, 0);
  for (int step = 1; step <= 5; ++step) {
    for (int64_t i = 0; i < kCount; ++i) {
      const double angle = 0.37 * static_cast<double>(i) + 1.3 * step;
      g.data<float>()[i] =
          static_cast<float>(std::sin(angle) * std::pow(10, -static_cast<double>(i % 3)));
    }
    for (const auto& [name, value] : evaluate(graph, {{"g", g}}, store, Backend::cpu).assigned)
      store.set(name, value);
  }
  for (const Row& r : rows) {
    SCOPED_TRACE(r.at);
    EXPECT_NEAR(store.get("w").data<float>()[r.at], r.value, 4 * 0x1p-23);
    EXPECT_EQ(store.get("optimizer.w.exp_avg").data<uint8_t>()[r.at], r.first);
    EXPECT_EQ(store.get("optimizer.w.exp_avg_sq").data<uint8_t>()[r.at], r.second);
  }
  const Tensor first = store.get("optimizer.w.exp_avg_absmax"),
               second = store.get("optimizer.w.exp_avg_sq_absmax");
  EXPECT_FLOAT_EQ(first.data<float>()[0], 0.03948298841714859f);
  EXPECT_FLOAT_EQ(second.data<float>()[0], 0.002617558930069208f);
  EXPECT_FLOAT_EQ(first.data<float>()[16], 0.03889012709259987f);
  EXPECT_FLOAT_EQ(second.data<float>()[16], 0.0026136785745620728f);
}

TEST(Adam8bit, IsNotTakenForAnotherOptimizer) {
  EXPECT_THROW(weighted_squares("lion_8bit"), UsageError);
}

TEST(Adam8bit, SmallTensorsAndTablesStayFloats) {
  struct Row {
    const char* name;
    Shape shape;
    size_t state_bytes;  // beside the parameter
  };
  const Row rows[] = {{"large", {70, 100}, 2 * (7000 + 4 * 28)},
                      {"least", {4096}, 2 * (4096 + 4 * 16)},
                      {"small", {4095}, 8 * 4095},
                      {"table", {500, 10}, 8 * 5000}};
  Builder b;
  std::map<std::string, Value> gradients;
  ParamGroup group{{}, {.lr = 0.01}, 0};
  for (const Row& r : rows) {
    const Value p = b.param({.name = r.name, .type = {DType::f32, r.shape}, .trainable = true});
    if (std::string(r.name) == "table")
      b.output("rows", ops::embedding(b, b.input("ids", DType::i64, {3}), p));
    gradients[r.name] = b.input(std::string("grad/") + r.name, DType::f32, r.shape);
    group.params.push_back(r.name);
  }
  add_optimizer(b, gradients, {.kind = "adamw_8bit"}, {group}, 1);
  std::map<std::string, size_t> bytes;
  const Graph graph = b.finish();
  for (const Param& p : graph.params()) {
    for (const Row& r : rows) {
      if (p.name.starts_with(std::string("optimizer.") + r.name + ".")) {
        bytes[r.name] += p.type.bytes();
      }
    }
  }
  for (const Row& r : rows) EXPECT_EQ(bytes[r.name], r.state_bytes) << r.name;
}

}  // namespace
}  // namespace graft::testing
