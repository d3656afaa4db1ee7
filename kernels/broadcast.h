// Index arithmetic that reference and CPU kernels share.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/kernel.h"

namespace graft {

inline int64_t LoadInt(const View& v, int64_t i) {
  switch (v.dtype) {
    case DType::i64:
      return static_cast<const int64_t*>(v.data)[i];
    case DType::i32:
      return static_cast<const int32_t*>(v.data)[i];
    default:
      return static_cast<const uint8_t*>(v.data)[i];
  }
}

inline void StoreInt(const View& v, int64_t i, int64_t value) {
  switch (v.dtype) {
    case DType::i64:
      static_cast<int64_t*>(v.data)[i] = value;
      break;
    case DType::i32:
      static_cast<int32_t*>(v.data)[i] = static_cast<int32_t>(value);
      break;
    case DType::boolean:
      static_cast<uint8_t*>(v.data)[i] = value != 0;
      break;
    default:
      static_cast<uint8_t*>(v.data)[i] = static_cast<uint8_t>(value);
      break;
  }
}

// Position in an operand of shape `from` that broadcasts to `to`, for a flat position in `to`.
class BroadcastIndex {
 public:
  BroadcastIndex(const Shape& from, const Shape& to) : rank_(to.rank()), same_(from == to) {
    int64_t stride = 1;
    for (int i = 1; i <= rank_; ++i) {
      const auto at = static_cast<size_t>(rank_ - i);
      sizes_[at] = to[-i];
      const int64_t size = i <= from.rank() ? from[-i] : 1;
      strides_[at] = size == 1 ? 0 : stride;
      stride *= size;
    }
  }
  int64_t operator()(int64_t flat) const {
    if (same_) return flat;
    int64_t at = 0;
    for (int i = rank_ - 1; i >= 0; --i) {
      const auto k = static_cast<size_t>(i);
      at += flat % sizes_[k] * strides_[k];
      flat /= sizes_[k];
    }
    return at;
  }

 private:
  int rank_;
  bool same_;
  std::array<int64_t, Shape::kMaxRank> sizes_{}, strides_{};
};

}  // namespace graft
