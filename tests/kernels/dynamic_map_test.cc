// The 8-bit types of optimizer states: their values are those of bitsandbytes, and every kernel
// takes the nearest.
#include "kernels/dynamic_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/update.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/targets.h"

namespace graft::testing {
namespace {

// bitsandbytes.functional.create_dynamic_map: middles of linspace(0.1, 1) in every decade, 0 and 1,
// sorted.
std::vector<double> created(bool is_signed) {
  std::vector<double> map = {0, 1};
  for (int i = 0; i < 7; ++i) {
    const int cells = (is_signed ? 1 : 2) << i;
    for (int k = 0; k < cells; ++k) {
      const double low = 0.1 + 0.9 * k / cells, high = 0.1 + 0.9 * (k + 1) / cells;
      const double share = std::pow(10, i - 6) * (low + high) / 2;
      map.push_back(share);
      if (is_signed) map.push_back(-share);
    }
  }
  std::sort(map.begin(), map.end());
  return map;
}

TEST(DynamicMap, IsThatOfBitsandbytes) {
  for (const bool is_signed : {true, false}) {
    const std::vector<double> want = created(is_signed);
    const auto& got =
        is_signed ? dynamic_map::kShares<double, true> : dynamic_map::kShares<double, false>;
    ASSERT_EQ(want.size(), got.size());
    for (size_t code = 0; code < got.size(); ++code)
      EXPECT_NEAR(got[code], want[code], 1e-15) << "signed " << is_signed << ", code " << code;
  }
  // Printed by bitsandbytes 0.50.
  EXPECT_FLOAT_EQ((dynamic_map::kShares<float, true>[0]), -0.99296874f);
  EXPECT_FLOAT_EQ((dynamic_map::kShares<float, true>[128]), 5.5e-7f);
  EXPECT_FLOAT_EQ((dynamic_map::kShares<float, true>[200]), 0.23359375f);
  EXPECT_FLOAT_EQ((dynamic_map::kShares<float, false>[1]), 3.25e-7f);
  EXPECT_FLOAT_EQ((dynamic_map::kShares<float, false>[100]), 0.06273438f);
}

// Numbers of every size, of both signs, from one that is the largest by far down to zero.
Tensor of_every_size(int64_t n) {
  Tensor x = floats({n}, 7, -1, 1);
  const Tensor decade = floats({n}, 8, -8.5, 0);
  for (int64_t i = 0; i < n; ++i) x.data<float>()[i] *= std::pow(10.0f, decade.data<float>()[i]);
  x.data<float>()[0] = 1;
  x.data<float>()[1] = 0;
  return x;
}

void expect_nearest(const Tensor& codes, std::span<const double> shares,
                    std::span<const double> map, bool never_zero) {
  for (int64_t i = 0; i < codes.elements(); ++i) {
    const double share = shares[static_cast<size_t>(i)];
    const uint8_t code = codes.data<uint8_t>()[i];
    const size_t from = never_zero && share > 0 ? 1 : 0;
    double nearest = INFINITY;
    for (size_t k = from; k < map.size(); ++k)
      nearest = std::min(nearest, std::fabs(share - map[k]));
    EXPECT_GE(code, from) << share;
    EXPECT_LE(std::fabs(share - map[code]), nearest + 4 * 0x1p-23 * std::fabs(share))
        << share << " became code " << int{code};
  }
}

// Without memory of what was (beta = 0) the moments are the gradient and its square.
TEST(DynamicMap, EveryTargetTakesTheNearest) {
  constexpr int64_t kCount = dynamic_map::kBlock;
  const Tensor g = of_every_size(kCount);
  const Tensor codes = ints({kCount}, 0, 256, 1, DType::u8), none = floats({1}, 1, 0, 0);
  const KernelCase c{"",
                     Attrs::of(AdamAttrs{.beta1 = 0, .beta2 = 0}),
                     {floats({kCount}), g, codes, none, codes, none, Tensor::scalar(0.01f),
                      int_values({0}).reshaped({}), Tensor::scalar(1.0f)},
                     {}};
  std::vector<double> first, second;
  for (const float x : g.span<float>()) {
    first.push_back(static_cast<double>(x));
    second.push_back(static_cast<double>(x * x));
  }
  for (const int64_t target : compiled_targets()) {
    if (!cpu_has(target)) continue;
    const TargetScope scope(target);
    SCOPED_TRACE(target_name(target));
    const std::vector<Tensor> got = run_kernel(Backend::cpu, "adam_8bit_update", c);
    expect_nearest(got[1], first, dynamic_map::kShares<double, true>, false);
    expect_nearest(got[3], second, dynamic_map::kShares<double, false>, true);
    EXPECT_EQ(got[2].data<float>()[0], 1);
    EXPECT_EQ(got[4].data<float>()[0], 1);
  }
}

}  // namespace
}  // namespace graft::testing
