// The ground floor: types, shapes, random numbers, threads.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/tensor.h"

namespace graft {
namespace {

TEST(DType, SixteenBitFloatsRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto b = static_cast<uint16_t>(bits);
    if (std::isnan(bf16_to_float(b))) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(bf16_to_float(b)))));
    } else {
      EXPECT_EQ(float_to_bf16(bf16_to_float(b)), b);
    }
    if (std::isnan(f16_to_float(b))) {
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(f16_to_float(b)))));
    } else {
      EXPECT_EQ(float_to_f16(f16_to_float(b)), b);
    }
  }
}

TEST(DType, NarrowingRoundsToEven) {
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-8f), float_to_bf16(1.0f));  // a tie: down to even
  EXPECT_EQ(float_to_bf16(1.0f + 3 * 0x1p-8f), float_to_bf16(1.0f + 0x1p-6f));
  EXPECT_EQ(f16_to_float(float_to_f16(1.0f + 0x1p-11f)), 1.0f);
  EXPECT_EQ(f16_to_float(float_to_f16(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(f16_to_float(float_to_f16(65520.0f))));
  EXPECT_EQ(f16_to_float(float_to_f16(0x1p-25f)), 0.0f);
}

TEST(Shape, BroadcastsAndRefuses) {
  EXPECT_EQ(broadcast({3, 1, 5}, {4, 1}), (Shape{3, 4, 5}));
  EXPECT_TRUE(broadcasts_to({1, 5}, {4, 5}));
  EXPECT_FALSE(broadcasts_to({4, 5}, {5}));
  EXPECT_THROW(broadcast({3}, {4}), ShapeError);
  EXPECT_THROW((Shape{2, -1}), ShapeError);
  EXPECT_THROW((Shape{0, int64_t{1} << 40, int64_t{1} << 40}), ShapeError);
  EXPECT_THROW((Shape{2, 3}.with(0, -1)), ShapeError);
  EXPECT_THROW((Shape{2, 3}.with(0, int64_t{1} << 58)), ShapeError);
  EXPECT_EQ((Shape{int64_t{1} << 29, int64_t{1} << 29}.elements()), int64_t{1} << 58);
  EXPECT_THROW((Shape{2, 3}.dim(2)), ShapeError);
  EXPECT_EQ((Shape{2, 3, 4}.without(-2)), (Shape{2, 4}));
  EXPECT_EQ(Shape{}.elements(), 1);
}

TEST(Tensor, CastsAndRefusesTheWrongType) {
  const Tensor t = Tensor::from<float>({2}, {1.5f, -2.0f});
  EXPECT_EQ(t.cast(DType::f64).data<double>()[0], 1.5);
  EXPECT_EQ(t.cast(DType::bf16).cast(DType::f32).data<float>()[1], -2.0f);
  EXPECT_EQ(t.cast(DType::f16).cast(DType::i32).data<int32_t>()[1], -2);
  EXPECT_EQ(t.cast(DType::boolean).cast(DType::f64).data<double>()[0], 1);
  constexpr int64_t kOdd = (int64_t{1} << 31) - 1;  // more digits than a float has
  EXPECT_EQ(Tensor::from<int64_t>({1}, {kOdd}).cast(DType::i32).data<int32_t>()[0], kOdd);
  EXPECT_THROW(t.data<int64_t>(), DtypeError);
  EXPECT_THROW(t.reshaped({3}), ShapeError);
  EXPECT_THROW(Tensor::from<float>({3}, {1.0f}), ShapeError);
}

// Known answers of the Random123 distribution.
TEST(Random, PhiloxKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0, 0),
            (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, f, f),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, Moments) {
  const RandomStream random(11, hash_name("weights"));
  constexpr int n = 200000;
  double uniform = 0, normal = 0, square = 0;
  for (uint64_t i = 0; i < n; ++i) {
    uniform += static_cast<double>(random.uniform(i));
    const double z = random.normal(i);
    normal += z;
    square += z * z;
  }
  const double four_sigma = 4 / std::sqrt(static_cast<double>(n));
  EXPECT_NEAR(uniform / n, 0.5, four_sigma / std::sqrt(12.0));
  EXPECT_NEAR(normal / n, 0, four_sigma);
  EXPECT_NEAR(square / n, 1, four_sigma * std::sqrt(2.0));
}

TEST(Parallel, CoversEveryIndexOnce) {
  const int threads = num_threads();
  for (int t : {1, 2, 5}) {
    set_num_threads(t);
    for (int64_t n : {0, 1, 7, 1000}) {
      std::vector<int> seen(static_cast<size_t>(n), 0);
      parallel_for(n, 3, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      for (int s : seen) EXPECT_EQ(s, 1);
    }
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace graft
