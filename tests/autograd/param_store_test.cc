// Parameters that no run reads any more: their memory goes, their numbers stay.
#include "autograd/param_store.h"

#include <gtest/gtest.h>

#include "autograd/compile.h"
#include "autograd/executor.h"
#include "autograd/ops.h"
#include "core/process_memory.h"
#include "core/safetensors.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

constexpr int64_t kOut = 70, kIn = 1024;  // the last panel is not full

Tensor numbers(const Shape& shape, DType dtype, uint64_t seed = 1) {
  return draw(Init::normal(1), {DType::f32, shape}, seed, "w").cast(dtype);
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

// x W^T, of a file of GPT-2 with W transposed.
std::shared_ptr<const Program> product(bool transposed, const ParamStore& store) {
  Builder b;
  const Value x = b.input("x", DType::f32, {3, kIn});
  const Shape shape = transposed ? Shape{kIn, kOut} : Shape{kOut, kIn};
  const Value w = b.param({.name = "w", .type = {DType::f32, shape}});
  b.output("y", ops::linear(b, x, transposed ? ops::transpose(b, w, {1, 0}) : w));
  return compile(b.finish(), store);
}

Tensor run(Executor& e) {
  e.set_input("x", numbers({3, kIn}, DType::f32, 2));
  e.run();
  return e.output("y").clone();
}

struct Row {
  DType dtype;
  bool transposed, file;
};

class Rest : public ::testing::TestWithParam<Row> {
 protected:
  Shape shape() const { return GetParam().transposed ? Shape{kIn, kOut} : Shape{kOut, kIn}; }
  void fill(uint64_t seed = 1) {
    const Tensor w = numbers(shape(), GetParam().dtype, seed);
    if (!GetParam().file) return store_.set("w", w.clone(), DType::f32);
    save_safetensors(folder_ / "w.safetensors", {{"w", w}});
    store_.set("w", SafeTensors::open(folder_ / "w.safetensors").tensor("w"), DType::f32);
  }
  TemporaryFolder folder_;
  ParamStore store_;
};

TEST_P(Rest, NumbersStay) {
  fill();
  const Tensor w = numbers(shape(), GetParam().dtype);
  Executor e(product(GetParam().transposed, store_), store_);
  const Tensor y = run(e);
  EXPECT_EQ(store_.stored_type("w"), w.dtype());
  EXPECT_TRUE(same(store_.stored("w"), w));
  EXPECT_TRUE(same(std::as_const(store_).get("w"), w.cast(DType::f32)));

  // A second program that reads it in the same way, and one after the store has changed.
  Executor again(product(GetParam().transposed, store_), store_);
  EXPECT_TRUE(same(run(again), y));
  store_.set("other", Tensor::scalar(1));
  EXPECT_TRUE(same(run(e), y));
  ParamStore other;
  other.share("w", store_);
  EXPECT_TRUE(same(other.stored("w"), w));

  // Who takes it to write, writes what the next binding reads.
  store_.own("w");
  Tensor& own = store_.get("w");
  EXPECT_TRUE(same(own, w.cast(DType::f32)));
  for (float& v : own.span<float>()) v = -v;
  store_.set("other", Tensor::scalar(2));
  Executor negative(product(GetParam().transposed, store_), store_);
  const Tensor minus = run(negative);
  for (int64_t i = 0; i < y.elements(); ++i) EXPECT_EQ(minus.data<float>()[i], -y.data<float>()[i]);
  fill(3);
  Executor fresh(product(GetParam().transposed, store_), store_);
  EXPECT_FALSE(same(run(fresh), y));
  EXPECT_TRUE(same(store_.stored("w"), numbers(shape(), GetParam().dtype, 3)));
}

TEST_P(Rest, MemoryGoes) {
  fill();
  const Tensor w = numbers(shape(), GetParam().dtype);
  Executor e(product(GetParam().transposed, store_), store_);
  const Tensor now = store_.stored("w");
  if (GetParam().file) {
    // What is left are pages that other tensors have a part in.
    EXPECT_LE(resident_bytes(now.bytes(), now.size_bytes()), size_t{2} << 12);
  } else {
    // Rows are made for who asks. The panels of 16-bit floats are wider: the rows stay as well.
    const bool made = now.bytes() != store_.stored("w").bytes();
    EXPECT_EQ(made, GetParam().dtype != DType::f16);
  }
  EXPECT_TRUE(same(now, w));
  EXPECT_EQ(resident_bytes(now.bytes(), now.size_bytes()), now.size_bytes());
}

// Whoever shares the bytes may write to them.
TEST(ParamStore, SharedBytesAreLeftAlone) {
  ParamStore store;
  Tensor w = numbers({kOut, kIn}, DType::f32);
  store.set("w", w);
  Executor e(product(false, store), store);
  const Tensor y = run(e);
  EXPECT_EQ(store.stored("w").bytes(), w.bytes());
  for (float& v : w.span<float>()) v = -v;
  store.set("other", Tensor::scalar(1));
  const Tensor minus = run(e);
  for (int64_t i = 0; i < y.elements(); ++i) EXPECT_EQ(minus.data<float>()[i], -y.data<float>()[i]);
}

INSTANTIATE_TEST_SUITE_P(
    All, Rest,
    ::testing::Values(Row{DType::f32, false, false}, Row{DType::f32, true, false},
                      Row{DType::f32, false, true}, Row{DType::f32, true, true},
                      Row{DType::bf16, false, false}, Row{DType::bf16, true, false},
                      Row{DType::bf16, false, true}, Row{DType::f16, false, false},
                      Row{DType::f16, false, true}),
    [](const auto& row) {
      return fmt::format("{}{}{}", name_of(row.param.dtype),
                         row.param.transposed ? "Transposed" : "", row.param.file ? "OfAFile" : "");
    });

}  // namespace
}  // namespace graft::testing
