// What a graph refuses, and that it says of which op, with which operands, where.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "autograd/ops.h"
#include "core/error.h"

namespace graft {
namespace {

std::string shape_error(const std::function<void(Builder&)>& f) {
  Builder b;
  const auto scope = b.scope("encoder.layer.0");
  try {
    f(b);
  } catch (const ShapeError& e) {
    return e.what();
  }
  return "";
}

TEST(GraphErrors, NameTheOpTheOperandsAndThePlace) {
  const std::string inner = shape_error([](Builder& b) {
    ops::matmul(b, b.input("x", DType::f32, {2, 3}), b.input("y", DType::f32, {4, 5}));
  });
  EXPECT_EQ(
      inner,
      "matmul: the inner dimensions differ: 3 and 4; operands f32[2, 3], f32[4, 5]; tx=false, "
      "ty=false; at encoder.layer.0");
  // Batches that do not broadcast are found by Shape, which knows no ops.
  const std::string batch = shape_error([](Builder& b) {
    ops::matmul(b, b.input("x", DType::f32, {2, 7, 3}), b.input("y", DType::f32, {5, 3, 4}));
  });
  EXPECT_EQ(batch.find("matmul: shapes [2] and [5] do not broadcast"), 0u) << batch;
  EXPECT_NE(batch.find("operands f32[2, 7, 3], f32[5, 3, 4]"), std::string::npos) << batch;
  const std::string sum = shape_error([](Builder& b) {
    ops::add(b, b.input("x", DType::f32, {2}), b.input("y", DType::f32, {3}));
  });
  EXPECT_EQ(sum.find("add: shapes [2] and [3] do not broadcast"), 0u) << sum;
}

}  // namespace
}  // namespace graft
