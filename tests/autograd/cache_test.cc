// A cache of keys and values that a program writes into: in the parameter's own bytes, only the new
// rows, and read by attention in the same run.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/ops.h"
#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "tests/support/golden.h"
#include "tests/support/kernel_cases.h"

namespace graft::testing {
namespace {

constexpr int64_t kBatch = 2, kCapacity = 64, kHeads = 2, kDim = 16;

Shape rows_of(int64_t count) { return {kBatch, count, kHeads, kDim}; }

Value state(Builder& b, const char* name, const Shape& shape) {
  return b.param({.name = name,
                  .type = {DType::f32, shape},
                  .kind = Param::Kind::state,
                  .init = Init::constant(0)});
}

// One step of decoding: `count` new rows behind `start`, attention over what `keep` shows.
Graph decode_step(int64_t count) {
  Builder b;
  const Value q = b.input("q", DType::f32, rows_of(count)),
              k = b.input("k", DType::f32, rows_of(count)),
              v = b.input("v", DType::f32, rows_of(count)),
              start = b.input("start", DType::i64, {}),
              keep = b.input("keep", DType::i64, {kBatch, kCapacity});
  const Value keys = ops::write_rows(b, state(b, "keys", rows_of(kCapacity)), k, start);
  const Value values = ops::write_rows(b, state(b, "values", rows_of(kCapacity)), v, start);
  b.output("y", ops::attention(b, q, keys, values, {}, keep, {.scale = 0.25}));
  b.assign("keys", keys);
  b.assign("values", values);
  return b.finish();
}

TEST(Cache, PlanHoldsNoSecondCopy) {
  const Program p = plan(optimize(decode_step(1)));
  const size_t cache = static_cast<size_t>(rows_of(kCapacity).elements()) * sizeof(float);
  EXPECT_LT(p.live_bytes, cache);
  EXPECT_LT(p.arena_bytes, cache);
  for (const Program::Step& s : p.steps) EXPECT_NE(s.action, Program::Action::write);
  for (const auto& [name, v] : p.graph.assignments()) {
    const Program::Buffer& b =
        p.buffers[static_cast<size_t>(p.place[static_cast<size_t>(v.node)][0])];
    EXPECT_EQ(b.kind, Program::Kind::param);
    EXPECT_EQ(b.name, name);
  }
}

// Token by token over the cache, as all at once under a causal mask.
TEST(Cache, DecodingIsCausalAttention) {
  constexpr int64_t kLength = 20;
  const Tensor q = floats(rows_of(kLength), 1, -2, 2), k = floats(rows_of(kLength), 2, -2, 2),
               v = floats(rows_of(kLength), 3);
  Builder b;
  b.output("y", ops::attention(
                    b, b.input("q", DType::f32, q.shape()), b.input("k", DType::f32, k.shape()),
                    b.input("v", DType::f32, v.shape()), {}, {}, {.scale = 0.25, .causal = true}));
  const Tensor want = evaluate(b.finish(), {{"q", q}, {"k", k}, {"v", v}}, {}).outputs.at("y");

  ParamStore store;
  const Graph step = decode_step(1);
  store.initialize(step, 0);
  Executor e(std::make_shared<const Program>(plan(step)), store);
  e.set_poison(true);
  const int64_t row = kHeads * kDim;
  for (int64_t t = 0; t < kLength; ++t) {
    for (const auto& [name, all] : {std::pair{"q", &q}, {"k", &k}, {"v", &v}}) {
      for (int64_t i = 0; i < kBatch; ++i) {
        std::copy_n(all->data<float>() + (i * kLength + t) * row, row,
                    e.input(name).data<float>() + i * row);
      }
    }
    e.input("start").data<int64_t>()[0] = t;
    for (int64_t i = 0; i < kBatch; ++i) e.input("keep").data<int64_t>()[i * kCapacity + t] = 1;
    e.run();
    const Tensor y = e.output("y");
    for (int64_t i = 0; i < kBatch * row; ++i) {
      const float w = want.data<float>()[(i / row * kLength + t) * row + i % row];
      EXPECT_NEAR(y.data<float>()[i], w, 2e-6) << "token " << t;
    }
  }
}

// A cache on pages of which only those of the new rows can be written.
TEST(Cache, OnlyNewRowsAreWritten) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const int64_t capacity = 8, width = static_cast<int64_t>(page / sizeof(float));
  const size_t bytes = static_cast<size_t>(capacity) * page;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const std::shared_ptr<void> owner(memory, [bytes](void* p) { munmap(p, bytes); });
  Tensor cache(DType::f32, {1, capacity, width}, memory, owner);
  std::ranges::fill(cache.span<float>(), 1.0f);

  Builder b;
  const Value next =
      ops::write_rows(b, state(b, "cache", cache.shape()),
                      b.input("rows", DType::f32, {1, 2, width}), b.input("start", DType::i64, {}));
  b.output("sum", ops::sum(b, next));
  b.assign("cache", next);
  ParamStore store;
  store.set("cache", cache);
  Executor e(std::make_shared<const Program>(plan(b.finish())), store);
  std::ranges::fill(e.input("rows").span<float>(), 3.0f);
  for (const int64_t start : {2, 5}) {
    e.input("start").data<int64_t>()[0] = start;
    auto* at = static_cast<std::byte*>(memory);
    ASSERT_EQ(mprotect(memory, bytes, PROT_READ), 0);
    ASSERT_EQ(mprotect(at + static_cast<size_t>(start) * page, 2 * page, PROT_READ | PROT_WRITE),
              0);
    e.run();
    EXPECT_EQ(cache.data<float>()[start * width], 3);
    EXPECT_EQ(cache.data<float>()[(start + 2) * width - 1], 3);
  }
  EXPECT_EQ(*e.output("sum").data<float>(), static_cast<float>(width * (4 * 1 + 4 * 3)));
  ASSERT_EQ(mprotect(memory, bytes, PROT_READ | PROT_WRITE), 0);
}

// Whoever still wants the old rows gets them: the new ones are computed elsewhere and copied.
TEST(Cache, OldRowsThatAreReadLaterStay) {
  Builder b;
  const Value cache = state(b, "cache", {1, 3, 1});
  const Value next =
      ops::write_rows(b, cache, b.constant(7, {1, 1, 1}), b.constant(1, {}, DType::i64));
  b.output("new", ops::scale(b, next, 2));
  b.output("old", ops::scale(b, cache, 2));
  b.assign("cache", next);
  ParamStore store;
  store.set("cache", Tensor::from<float>({1, 3, 1}, {1, 2, 3}));
  Executor e(std::make_shared<const Program>(plan(b.finish())), store);
  e.run();
  const auto expect = [](const Tensor& t, const std::vector<float>& want) {
    EXPECT_EQ(mismatch(t, Tensor::from<float>({1, 3, 1}, want), 0, 0), "");
  };
  expect(e.output("new"), {2, 14, 6});
  expect(e.output("old"), {2, 4, 6});
  expect(store.get("cache"), {1, 7, 3});
}

}  // namespace
}  // namespace graft::testing
