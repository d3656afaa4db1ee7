#include "core/shape.h"

#include <algorithm>

#include "core/error.h"

namespace graft {

Shape::Shape(std::initializer_list<int64_t> dims)
    : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  if (dims.size() > kMaxRank) {
    throw ShapeError("a shape has at most {} dimensions, got {}", kMaxRank, dims.size());
  }
  // Every product of dimensions fits, and so does their number of bytes; also where one is 0.
  constexpr int64_t kMost = int64_t{1} << 58;
  int64_t product = 1;
  for (int64_t d : dims) {
    if (d < 0) throw ShapeError("a dimension must not be negative, got {}", d);
    if (d > kMost / product)
      throw ShapeError("a tensor of shape [{}] is too large", fmt::join(dims, ", "));
    product *= std::max<int64_t>(d, 1);
  }
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

int Shape::axis(int64_t axis) const {
  const int64_t a = axis < 0 ? axis + rank_ : axis;
  if (a < 0 || a >= rank_) throw ShapeError("axis {} does not exist in shape {}", axis, str());
  return static_cast<int>(a);
}

int64_t Shape::dim(int a) const { return dims_[static_cast<size_t>(axis(a))]; }

int64_t Shape::elements() const { return product(0, rank_); }

Shape Shape::batch() const {
  if (rank_ < 2) throw ShapeError("{} is not a batch of matrices", str());
  return Shape(dims().first(static_cast<size_t>(rank_ - 2)));
}

int64_t Shape::product(int first, int last) const {
  int64_t n = 1;
  for (int i = first; i < last; ++i) n *= dims_[static_cast<size_t>(i)];
  return n;
}

Shape Shape::with(int a, int64_t size) const {
  std::array<int64_t, kMaxRank> dims = dims_;
  dims[static_cast<size_t>(axis(a))] = size;
  return Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank_)));
}

Shape Shape::without(int a) const {
  Shape s;
  s.rank_ = rank_ - 1;
  const int skip = axis(a);
  for (int i = 0, j = 0; i < rank_; ++i) {
    if (i != skip) s.dims_[static_cast<size_t>(j++)] = dims_[static_cast<size_t>(i)];
  }
  return s;
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(dims(), other.dims());
}

std::string Shape::str() const { return fmt::format("[{}]", fmt::join(dims(), ", ")); }

Shape broadcast(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::array<int64_t, Shape::kMaxRank> dims{};
  for (int i = 1; i <= rank; ++i) {
    const int64_t x = i <= a.rank() ? a[-i] : 1;
    const int64_t y = i <= b.rank() ? b[-i] : 1;
    if (x != y && x != 1 && y != 1) {
      throw ShapeError("shapes {} and {} do not broadcast: {} against {} in dimension -{}", a.str(),
                       b.str(), x, y, i);
    }
    dims[static_cast<size_t>(rank - i)] = x == 1 ? y : x;
  }
  return Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank)));
}

bool broadcasts_to(const Shape& from, const Shape& to) {
  if (from.rank() > to.rank()) return false;
  for (int i = 1; i <= from.rank(); ++i) {
    if (from[-i] != to[-i] && from[-i] != 1) return false;
  }
  return true;
}

}  // namespace graft
