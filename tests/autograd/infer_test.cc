// What ops refuse when they are built. infer is the only shape check there is: a kernel runs
// whatever passed it.
#include <gtest/gtest.h>

#include "autograd/op.h"
#include "core/error.h"

namespace graft::testing {
namespace {

constexpr DType kFloat = DType::f32, kInt = DType::i64, kHalf = DType::bf16;

struct Refusal {
  const char* name;
  const char* op;
  Attrs attrs;
  std::vector<std::optional<Type>> operands;
  const char* says;
};

const std::vector<Refusal>& refusals() {
  const Attrs none = Attrs::of(NoAttrs{});
  const Attrs axis0 = Attrs::of(AxisAttrs{0});
  const auto f = [](const Shape& s) { return Type{kFloat, s}; };
  const auto i = [](const Shape& s) { return Type{kInt, s}; };
  static const std::vector<Refusal> table = {
      {"half_floats", "add", none, {Type{kHalf, {4}}, Type{kHalf, {4}}}, "must be f32 (cast it"},
      {"half_float_unary", "gelu_erf", none, {Type{kHalf, {4}}}, "must be f32"},
      {"integer_sum", "sum", Attrs::of(ReduceAttrs{{0}, false}), {i({4})}, "must be f32"},
      {"broadcast", "mul", none, {f({3}), f({4})}, "mul: "},
      {"softmax_axis", "softmax", Attrs::of(AxisAttrs{-1}), {f({3})}, "the axis does not exist"},
      {"softmax_axis_beyond", "softmax", Attrs::of(AxisAttrs{1}), {f({3})}, "does not exist"},
      {"cumsum_axis", "cumsum", Attrs::of(CumsumAttrs{-2, false}), {f({3})}, "does not exist"},
      {"concat_axis", "concat", Attrs::of(AxisAttrs{-1}), {f({3}), f({3})}, "does not exist"},
      {"max_of_nothing", "max", Attrs::of(ReduceAttrs{{0}, false}), {f({0})}, "maximum of nothing"},
      {"slice", "slice", Attrs::of(SliceAttrs{0, 2, 2, 1}), {f({3})}, "the slice leaves the axis"},
      {"unslice", "unslice", Attrs::of(UnsliceAttrs{0, 2, 1, 3}), {f({2})}, "leaves the axis"},
      {"unslice_start", "unslice", Attrs::of(UnsliceAttrs{0, -1, 1, 3}), {f({2})}, "leaves"},
      {"pad", "pad", Attrs::of(PadAttrs{{-2}, {-2}, 0}), {f({3})}, "more is cut than there is"},
      {"integer_scatter_add", "scatter_add", axis0, {i({3}), i({2}), i({2})}, "must be f32"},
      {"scatter_src", "scatter", axis0, {f({3}), i({2}), f({3})}, "index's shape"},
      {"gather_index", "gather", axis0, {f({3, 2}), i({3, 3})}, "must not be larger than x"},
      {"float_index", "gather", axis0, {f({3}), f({3})}, "must be an integer type"},
      {"integer_index_add", "index_add", Attrs::of(IndexAddAttrs{0, 4}), {i({2}), i({2})}, "f32"},
      {"too_many_rows_read",
       "read_rows",
       Attrs::of(RowsAttrs{4}),
       {f({2, 3}), i({})},
       "more rows are wanted"},
      {"too_many_rows_written",
       "write_rows",
       none,
       {f({2, 3}), f({2, 4}), i({})},
       "rows must be as base"},
      {"row_starts", "write_rows", none, {f({2, 3}), f({2, 1}), i({3})}, "one per batch entry"},
      {"embedding_dy",
       "embedding_backward",
       Attrs::of(EmbeddingAttrs{5, -1}),
       {i({4}), f({3, 2})},
       "the axes of ids"},
      {"norm_weight", "layer_norm", Attrs::of(EpsAttrs{1e-5}), {f({2, 3}), i({3})}, "f32"},
      {"norm_weight_size", "rms_norm", Attrs::of(EpsAttrs{1e-5}), {f({2, 3}), f({2})}, "last axis"},
      {"loss_dout",
       "cross_entropy_backward",
       Attrs::of(LossAttrs{"none", -100, 0}),
       {f({}), f({4, 3}), i({4})},
       "dout must be as the loss"},
      {"bce_dout", "bce_backward", none, {f({2}), f({3}), f({3})}, "must be alike"},
      {"head_weight",
       "linear_cross_entropy",
       Attrs::of(HeadLossAttrs{}),
       {f({4, 3}), f({9, 2}), i({4})},
       "x must be [N, C] and w [V, C]"},
      {"head_bias",
       "linear_cross_entropy",
       Attrs::of(HeadLossAttrs{}),
       {f({4, 3}), f({9, 3}), i({4}), f({4})},
       "bias must be [V]"},
      {"head_statistics",
       "linear_cross_entropy_backward",
       Attrs::of(HeadLossAttrs{}),
       {f({}), f({4, 3}), f({9, 3}), i({4}), f({4})},
       "those of linear_cross_entropy"},
      {"attention_heads",
       "attention",
       Attrs::of(AttentionAttrs{}),
       {f({1, 2, 3, 4}), f({1, 2, 2, 4}), f({1, 2, 2, 4})},
       "multiple of the key heads"},
      {"attention_value_type",
       "attention",
       Attrs::of(AttentionAttrs{}),
       {f({1, 2, 2, 4}), f({1, 2, 2, 4}), Type{kHalf, {1, 2, 2, 4}}},
       "must be f32"},
      {"attention_dout",
       "attention_backward",
       Attrs::of(AttentionAttrs{}),
       {f({1, 1, 2, 4}), f({1, 2, 2, 4}), f({1, 2, 2, 4}), f({1, 2, 2, 4})},
       "dout must be as q"},
      {"attention_softcap",
       "attention",
       Attrs::of(AttentionAttrs{.softcap = -1}),
       {f({1, 2, 2, 4}), f({1, 2, 2, 4}), f({1, 2, 2, 4})},
       "softcap must be positive"},
      {"attention_dropout",
       "attention",
       Attrs::of(AttentionAttrs{.dropout = 1}),
       {f({1, 2, 2, 4}), f({1, 2, 2, 4}), f({1, 2, 2, 4}), {}, {}, i({2})},
       "dropout must be in [0, 1)"},
      {"attention_without_rng",
       "attention",
       Attrs::of(AttentionAttrs{.dropout = 0.1}),
       {f({1, 2, 2, 4}), f({1, 2, 2, 4}), f({1, 2, 2, 4})},
       "rng must be given with dropout"},
      {"attention_rng",
       "attention",
       Attrs::of(AttentionAttrs{.dropout = 0.1}),
       {f({1, 2, 2, 4}), f({1, 2, 2, 4}), f({1, 2, 2, 4}), {}, {}, i({3})},
       "rng must be i64[2]"},
      {"t5_one_bucket", "t5_bucket", Attrs::of(T5BucketAttrs{true, 2, 128}), {i({4})}, "buckets"},
      {"deberta_distance",
       "deberta_bucket",
       Attrs::of(DebertaBucketAttrs{8, 5}),
       {i({4})},
       "beyond"},
      {"t5_distance", "t5_bucket", Attrs::of(T5BucketAttrs{false, 32, 16}), {i({4})}, "beyond"},
      {"fastfood_permutation",
       "fastfood",
       Attrs::of(FastfoodAttrs{5, 2, 1, 1}),
       {f({2}), f({8}), Type{DType::i32, {4}}, f({2})},
       "those of fastfood_draw"},
      {"fastfood_signs",
       "fastfood_adjoint",
       Attrs::of(FastfoodAttrs{5, 2, 1, 1}),
       {f({5}), f({8}), Type{DType::i32, {8}}, f({3})},
       "those of fastfood_draw"},
  };
  return table;
}

class Infer : public ::testing::TestWithParam<Refusal> {};

TEST_P(Infer, Refuses) {
  const Refusal& r = GetParam();
  try {
    infer_types(find_op(r.op), r.attrs, r.operands);
    FAIL() << r.op << " was accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(r.says), std::string::npos) << e.what();
    EXPECT_EQ(std::string(e.what()).rfind(std::string(r.op) + ": ", 0), 0u) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Table, Infer, ::testing::ValuesIn(refusals()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace graft::testing
