// fuse_products makes a fused_linear of what stands around a product, where it says and nowhere
// else.
#include "autograd/passes/fuse_products.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "autograd/evaluate.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "tests/support/golden.h"
#include "tests/support/random_tensor.h"

namespace graft::testing {
namespace {

struct FuseCase {
  const char* name;
  std::map<std::string, int64_t> left;  // ops in the fused graph, reshapes and leaves aside
  std::function<Value(Builder& b, Value x, Value w, Value y)> build;  // x, y [6, 20], w [20, 20]
};

const std::vector<FuseCase>& fuse_cases() {
  using ops::add, ops::linear, ops::reshape, ops::scale;
  static const std::vector<FuseCase> cases = {
      {"residual",
       {{"fused_linear", 1}},
       [](Builder& b, Value x, Value w, Value y) { return add(b, linear(b, x, w), y); }},
      {"residual of its own operand",
       {{"fused_linear", 1}},
       [](Builder& b, Value x, Value w, Value) { return add(b, x, linear(b, x, w)); }},
      {"low rank",
       {{"linear", 2}, {"fused_linear", 1}},
       [](Builder& b, Value x, Value w, Value y) {
         const Value product = linear(b, x, w);
         return add(b, product, scale(b, linear(b, linear(b, y, w), w), 2));
       }},
      {"low rank, computed first",
       {{"linear", 1}, {"fused_linear", 2}},
       [](Builder& b, Value x, Value w, Value y) {
         const Value low_rank = scale(b, linear(b, linear(b, y, w), w), 2);
         return add(b, linear(b, x, w), low_rank);
       }},
      {"low rank and residual",
       {{"linear", 1}, {"fused_linear", 2}},
       [](Builder& b, Value x, Value w, Value y) {
         const Value sum = add(b, linear(b, x, w), scale(b, linear(b, linear(b, y, w), w), 2));
         return add(b, sum, y);
       }},
      {"factor of x",
       {{"fused_linear", 1}},
       [](Builder& b, Value x, Value w, Value) { return linear(b, scale(b, x, 3), w); }},
      {"factor of x behind a view",
       {{"fused_linear", 1}},
       [](Builder& b, Value x, Value w, Value) {
         return reshape(
             b,
             b.node("linear_dx", {reshape(b, scale(b, reshape(b, x, {2, 3, 20}), 3), {6, 20}), w}),
             {2, 60});
       }},
      {"sum of three gradients",
       {{"linear_dx", 1}, {"fused_linear", 2}},
       [](Builder& b, Value x, Value w, Value y) {
         const auto dx = [&](Value v) {
           return reshape(b, b.node("linear_dx", {v, w}), {2, 3, 20});
         };
         return add(b, add(b, dx(x), dx(y)), dx(ops::neg(b, y)));
       }},
      {"activation",
       {{"fused_linear", 1}},
       [](Builder& b, Value x, Value w, Value) { return ops::gelu_erf(b, linear(b, x, w)); }},
      {"activation with its gradient",
       {{"linear", 1}, {"gelu_erf", 1}, {"gelu_erf_backward", 1}},
       [](Builder& b, Value x, Value w, Value y) {
         const Value u = linear(b, x, w);
         return ops::concat(b, {ops::gelu_erf(b, u), b.node("gelu_erf_backward", {y, u})}, 0);
       }},
      {"everything",
       {{"fused_linear", 1}},
       [](Builder& b, Value x, Value w, Value y) {
         return ops::silu(b, add(b, y, scale(b, linear(b, scale(b, x, 2), w), 0.25)));
       }},
      {"read twice",
       {{"linear", 1}, {"add", 1}, {"mul", 1}},
       [](Builder& b, Value x, Value w, Value y) {
         const Value u = linear(b, x, w);
         return ops::mul(b, add(b, u, y), u);
       }},
      {"doubled",
       {{"linear", 1}, {"add", 1}},
       [](Builder& b, Value x, Value w, Value) {
         const Value u = linear(b, x, w);
         return add(b, u, u);
       }},
      {"a factor after the bias",
       {{"linear", 1}, {"scale", 1}},
       [](Builder& b, Value x, Value w, Value y) {
         const Value bias = reshape(b, ops::slice(b, y, 0, 0, 1), {20});
         return scale(b, linear(b, x, w, bias), 2);
       }},
      {"a broadcast sum",
       {{"linear", 1}, {"add", 1}},
       [](Builder& b, Value x, Value w, Value y) {
         return add(b, linear(b, x, w), ops::slice(b, y, 0, 0, 1));
       }},
      {"gradient of a factor",
       {{"matmul", 1}, {"scale", 1}},
       [](Builder& b, Value x, Value w, Value y) {
         (void)w;
         return ops::matmul(b, scale(b, x, 2), ops::slice(b, y, 1, 0, 4), true, false);
       }},
  };
  return cases;
}

TEST(FuseProducts, WhereAProductCanTakeItOver) {
  for (const FuseCase& c : fuse_cases()) {
    SCOPED_TRACE(c.name);
    Builder b;
    const Value x = b.input("x", DType::f32, {6, 20}), w = b.input("w", DType::f32, {20, 20}),
                y = b.input("y", DType::f32, {6, 20});
    b.output("z", c.build(b, x, w, y));
    const Graph graph = b.finish(), fused = fuse_products(graph);
    std::map<std::string, int64_t> left;
    for (const Node& n : fused.nodes()) {
      if (c.left.contains(std::string(n.op->name)) ||
          (n.op->name != "input" && n.op->view_of < 0 && n.op->name != "concat" &&
           n.op->name != "slice" && n.op->name != "neg"))
        ++left[std::string(n.op->name)];
    }
    EXPECT_EQ(left, c.left) << to_text(fused);
    const Inputs inputs{{"x", random_tensor({6, 20}, 1)},
                        {"w", random_tensor({20, 20}, 2)},
                        {"y", random_tensor({6, 20}, 3)}};
    const Tensor want = evaluate(graph, inputs, {}, Backend::ref).outputs.at("z");
    EXPECT_EQ(
        mismatch(evaluate(fused, inputs, {}, Backend::ref).outputs.at("z"), want, 1e-12, 1e-12),
        "");
    EXPECT_EQ(mismatch(evaluate(fused, inputs, {}, Backend::cpu).outputs.at("z"), want, 1e-5, 1e-4),
              "");
  }
}

}  // namespace
}  // namespace graft::testing
