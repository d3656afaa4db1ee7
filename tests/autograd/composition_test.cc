// Ops that stand for a composition of plainer ones, from one table: the composition is their
// specification, forward and backward; what is asked for alone equals what is asked for together;
// the planned executor computes what the evaluator does, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/planner.h"
#include "tests/support/golden.h"
#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

using In = std::function<Value(const std::string&)>;
using Build = std::function<Value(Builder&, const In&)>;

struct Row {
  const char* name;
  Inputs inputs;  // those in float are differentiated
  Build op, composition;
  double rtol = 1e-5, atol = 4e-6;  // of the kernel in float, for values of order one
};

AttentionAttrs capped(double softcap, bool causal = false) {
  return {.scale = 0.5, .softcap = softcap, .causal = causal};
}

// [B, T, H, D] -> [B, H, T, D], each key head as often as query heads read it.
Value heads_first(Builder& b, Value x, int64_t repeat) {
  const Shape s = b.shape(x);
  const Value y = ops::reshape(b, ops::transpose(b, x, {0, 2, 1, 3}), {s[0], s[2], 1, s[1], s[3]});
  return ops::reshape(b, ops::expand(b, y, {s[0], s[2], repeat, s[1], s[3]}),
                      {s[0], s[2] * repeat, s[1], s[3]});
}

Value plain_attention(Builder& b, const In& in, const AttentionAttrs& a) {
  const int64_t group = b.shape(in("q"))[2] / b.shape(in("k"))[2];
  const Value q = heads_first(b, in("q"), 1), k = heads_first(b, in("k"), group),
              v = heads_first(b, in("v"), group);
  Value x = ops::scale(b, ops::matmul(b, q, k, false, true), a.scale);
  x = ops::scale(b, ops::tanh(b, ops::scale(b, x, 1 / a.softcap)), a.softcap);
  if (in("bias").valid()) x = ops::add(b, x, in("bias"));
  if (in("hidden").valid()) x = ops::masked_fill(b, x, in("hidden"), -1e30);
  return ops::transpose(b, ops::matmul(b, ops::softmax(b, x), v), {0, 2, 1, 3});
}

Row attention_row(const char* name, const AttentionAttrs& a, Inputs more) {
  Inputs inputs = {{"q", floats({2, 5, 4, 3}, 1, -2, 2)},
                   {"k", floats({2, 6, 2, 3}, 2, -2, 2)},
                   {"v", floats({2, 6, 2, 3}, 3, -2, 2)}};
  inputs.merge(more);
  return {name, inputs,
          [a](Builder& b, const In& in) {
            return ops::attention(b, in("q"), in("k"), in("v"), in("bias"), in("keep"), a);
          },
          [a](Builder& b, const In& in) { return plain_attention(b, in, a); }};
}

std::vector<Row> attention_rows() {
  Tensor causal(DType::i64, {5, 6}), keep(DType::i64, {2, 6}), hidden(DType::i64, {2, 1, 1, 6});
  for (int64_t i = 0; i < 30; ++i) causal.data<int64_t>()[i] = i % 6 > i / 6 + 1;
  for (int64_t i = 0; i < 12; ++i) {
    keep.data<int64_t>()[i] = i % 6 < 4 - i / 6;
    hidden.data<int64_t>()[i] = 1 - keep.data<int64_t>()[i];
  }
  return {attention_row("softcap", capped(1.5), {}),
          attention_row("softcap_bias", capped(0.7), {{"bias", floats({4, 5, 6}, 4)}}),
          attention_row("softcap_causal", capped(2, true), {{"hidden", causal}}),
          attention_row("softcap_keep", capped(2), {{"keep", keep}, {"hidden", hidden}})};
}

// Rows of axis 1 through the flat indices of what they hold.
Row write_rows_row(const char* name, Tensor start, const std::vector<int64_t>& places) {
  return {name,
          {{"base", floats({2, 4, 3}, 1)},
           {"rows", floats({2, 2, 3}, 2)},
           {"start", std::move(start)},
           {"places", Tensor::from<int64_t>({12}, places)}},
          [](Builder& b, const In& in) {
            return ops::write_rows(b, in("base"), in("rows"), in("start"));
          },
          [](Builder& b, const In& in) {
            const Value flat = ops::scatter(b, ops::reshape(b, in("base"), {24}), in("places"),
                                            ops::reshape(b, in("rows"), {12}), 0);
            return ops::reshape(b, flat, {2, 4, 3});
          }};
}

Row read_rows_row() {
  return {"read_rows",
          {{"x", floats({2, 4, 3}, 1)}, {"start", int_values({2, 0})}},
          [](Builder& b, const In& in) { return ops::read_rows(b, in("x"), in("start"), 2); },
          [](Builder& b, const In& in) {
            const auto entry = [&](int64_t i, int64_t at) {
              return ops::slice(b, ops::slice(b, in("x"), 0, i, i + 1), 1, at, at + 2);
            };
            return ops::concat(b, {entry(0, 2), entry(1, 0)}, 0);
          }};
}

Row head_row(const char* name, const HeadLossAttrs& a, bool bias, int64_t n = 7, int64_t v = 9) {
  Tensor target = ints({n}, 0, v, 4);
  target.data<int64_t>()[2] = -100;
  Inputs inputs = {
      {"x", floats({n, 4}, 1, -2, 2)}, {"w", floats({v, 4}, 2, -2, 2)}, {"target", target}};
  if (bias) inputs["bias"] = floats({v}, 3);
  return {name, inputs,
          [a](Builder& b, const In& in) {
            return ops::linear_cross_entropy(b, in("x"), in("w"), in("bias"), in("target"), a);
          },
          [a](Builder& b, const In& in) {
            Value z = ops::scale(b, ops::linear(b, in("x"), in("w")), a.scale);
            if (in("bias").valid()) z = ops::add(b, z, in("bias"));
            if (a.softcap > 0)
              z = ops::scale(b, ops::tanh(b, ops::scale(b, z, 1 / a.softcap)), a.softcap);
            return ops::cross_entropy(b, z, in("target"), a.reduction, a.ignore_index,
                                      a.label_smoothing);
          }};
}

std::vector<Row> rows() {
  std::vector<Row> all = attention_rows();
  all.push_back(write_rows_row("write_rows_at_one_place", ints({}, 1, 2),
                               {3, 4, 5, 6, 7, 8, 15, 16, 17, 18, 19, 20}));
  all.push_back(write_rows_row("write_rows_each_at_its_place", int_values({2, 0}),
                               {6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}));
  // The second row of the one, and the first of the other, leave the axis.
  all.push_back(write_rows_row("write_rows_over_the_ends", int_values({3, -1}),
                               {9, 10, 11, -1, -1, -1, -1, -1, -1, 12, 13, 14}));
  all.push_back(read_rows_row());
  all.push_back(head_row("head", {}, false));
  all.push_back(head_row("head_bias", {.reduction = "sum", .ignore_index = 3}, true));
  all.push_back(head_row("head_smoothed", {.reduction = "none", .label_smoothing = 0.2}, true));
  all.push_back(head_row("head_scaled_and_capped", {.scale = 0.7, .softcap = 2}, true));
  all.push_back(head_row("head_in_chunks", {.softcap = 3}, true, 1100, 2100));
  return all;
}

class Composition : public ::testing::TestWithParam<Row> {
 protected:
  const Inputs& inputs() const { return GetParam().inputs; }
  std::vector<std::string> differentiable() const {
    std::vector<std::string> names;
    for (const auto& [name, t] : inputs()) {
      if (t.dtype() == DType::f32) names.push_back(name);
    }
    return names;
  }
  // Outputs "y" and "grad/INPUT" of what is wanted, against a cotangent "g".
  Graph graph(const Build& build, const std::vector<std::string>& wanted) const {
    Builder b;
    std::map<std::string, Value> leaves;
    for (const auto& [name, t] : inputs()) leaves[name] = b.input(name, t.dtype(), t.shape());
    const Value y =
        build(b, [&](const std::string& n) { return leaves.contains(n) ? leaves.at(n) : Value{}; });
    const Value g = b.input("g", DType::f32, b.shape(y));
    std::vector<Value> xs;
    for (const std::string& n : wanted) xs.push_back(leaves.at(n));
    const std::vector<Value> grads = gradient(b, {&y, 1}, {&g, 1}, xs);
    b.output("y", y);
    for (size_t i = 0; i < xs.size(); ++i) b.output("grad/" + wanted[i], grads[i]);
    return b.finish();
  }
  Inputs with_cotangent(const Graph& g) const {
    Inputs all = inputs();
    all["g"] = floats(g.type(g.output("y")).shape, 77);
    return all;
  }
};

TEST_P(Composition, IsTheMeaning) {
  const Row& row = GetParam();
  const Graph op = graph(row.op, differentiable()),
              plain = graph(row.composition, differentiable());
  const Inputs in = with_cotangent(op);
  const Evaluation want = evaluate(plain, in, {}, Backend::ref),
                   exact = evaluate(op, in, {}, Backend::ref), got = evaluate(op, in, {});
  ASSERT_EQ(want.outputs.size(), exact.outputs.size());
  for (const auto& [name, t] : want.outputs) {
    EXPECT_EQ(mismatch(exact.outputs.at(name), t, 1e-11, 1e-12), "") << name;
    EXPECT_EQ(mismatch(got.outputs.at(name), t.cast(DType::f32), row.rtol, row.atol), "") << name;
  }
}

TEST_P(Composition, EachGradientAlone) {
  const Row& row = GetParam();
  const Graph all = graph(row.op, differentiable());
  const Inputs in = with_cotangent(all);
  const Evaluation want = evaluate(all, in, {});
  for (const std::string& name : differentiable()) {
    const Evaluation got = evaluate(graph(row.op, {name}), in, {});
    EXPECT_EQ(mismatch(got.outputs.at("grad/" + name), want.outputs.at("grad/" + name), 0, 0), "")
        << name;
  }
}

TEST_P(Composition, ExecutorEqualsEvaluator) {
  const Graph g = graph(GetParam().op, differentiable());
  const Inputs in = with_cotangent(g);
  const Evaluation want = evaluate(g, in, {});
  ParamStore store;
  Executor executor(std::make_shared<const Program>(plan(g)), store);
  executor.set_poison(true);
  for (int run = 0; run < 2; ++run) {
    for (const std::string& n : g.input_names()) executor.set_input(n, in.at(n));
    executor.run();
    for (const auto& [name, t] : want.outputs)
      EXPECT_EQ(std::memcmp(executor.output(name).bytes(), t.bytes(), t.size_bytes()), 0) << name;
  }
  EXPECT_EQ(executor.high_water_bytes(), executor.program().arena_bytes);
}

INSTANTIATE_TEST_SUITE_P(Table, Composition, ::testing::ValuesIn(rows()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace graft::testing
