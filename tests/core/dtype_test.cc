#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace graft {
namespace {

struct Conversion {
  double value;
  DType dtype;
  double stored;
};

// What leaves the range of an integer stops at its end, and only zero is false.
TEST(Dtype, ElementsAreStoredInRange) {
  const double inf = std::numeric_limits<double>::infinity();
  const Conversion table[] = {
      {1.9, DType::i64, 1},
      {-1.9, DType::i32, -1},
      {1e30, DType::i64, 0x1p63},
      {-inf, DType::i64, -0x1p63},
      {1e10, DType::i32, 2147483647},
      {-1e10, DType::i32, -2147483648.0},
      {std::nan(""), DType::i64, 0},
      {std::nan(""), DType::i32, 0},
      {-3, DType::u8, 0},
      {300, DType::u8, 255},
      {0.25, DType::boolean, 1},
      {-inf, DType::boolean, 1},
      {-0.0, DType::boolean, 0},
      {1 + 0x1p-8, DType::bf16, 1},  // half of the last place: to even
      {1 + 3 * 0x1p-8, DType::bf16, 1 + 0x1p-6},
      {1e30, DType::f16, inf},
      {1e300, DType::f32, inf},
      {0.1, DType::f64, 0.1},
  };
  for (const Conversion& c : table) {
    uint64_t bits = 0;
    store_element(c.dtype, &bits, 0, c.value);
    EXPECT_EQ(load_element(c.dtype, &bits, 0), c.stored) << c.value << " as " << name_of(c.dtype);
  }
}

}  // namespace
}  // namespace graft
