// Dimensions of a tensor, outermost first; row-major and contiguous everywhere in graft.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace graft {

class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;  // rank 0: a scalar
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  // Negative axes count from the back: dim(-1) is the innermost. The axis must exist.
  int64_t dim(int axis) const;
  int64_t operator[](int axis) const { return dim(axis); }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }
  int64_t elements() const;  // product of all dimensions; 1 for a scalar

  // The axis as 0..rank-1; throws ShapeError when it does not exist.
  int axis(int64_t axis) const;
  Shape with(int axis, int64_t size) const;  // a copy with one dimension changed
  Shape without(int axis) const;
  Shape batch() const;  // without the last two axes: what a batch of matrices runs over
  // Product of the dimensions in [first, last).
  int64_t product(int first, int last) const;

  bool operator==(const Shape& other) const;
  std::string str() const;  // "[2, 3]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// NumPy broadcasting of two shapes; throws ShapeError when they do not fit.
Shape broadcast(const Shape& a, const Shape& b);
bool broadcasts_to(const Shape& from, const Shape& to);

}  // namespace graft
