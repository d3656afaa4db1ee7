// Ops that only move elements, or add them up by index, as plain loops over an element type. The
// reference tables use them for doubles, the CPU tables for whatever moves; the hot ones
// (embedding, transpose, concat, slice) have their own fast loops there.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/broadcast.h"
#include "kernels/packed.h"

namespace graft::move {

// Runs f with a pointer type of the element's width: moving bits needs no arithmetic type.
template <typename F>
void ByWidth(DType dtype, F f) {
  switch (size_of(dtype)) {
    case 1:
      f(uint8_t{});
      break;
    case 2:
      f(uint16_t{});
      break;
    case 4:
      f(uint32_t{});
      break;
    default:
      f(uint64_t{});
      break;
  }
}

template <typename T>
const T* Data(const View& v) {
  return static_cast<const T*>(v.data);
}
template <typename T>
T* MutableData(const View& v) {
  return static_cast<T*>(v.data);
}

// x seen as [outer, size, inner] around one axis.
struct Split3 {
  int64_t outer, size, inner;
  Split3(const Shape& s, int64_t axis)
      : outer(s.product(0, static_cast<int>(axis))),
        size(s[static_cast<int>(axis)]),
        inner(s.product(static_cast<int>(axis) + 1, s.rank())) {}
};

// Position of the first largest of n entries, `stride` apart; a NaN counts as largest, as in
// PyTorch.
template <typename T>
int64_t ArgMax(const T* x, int64_t n, int64_t stride) {
  int64_t best = 0;
  for (int64_t k = 1; k < n && !std::isnan(x[best * stride]); ++k) {
    if (!(x[k * stride] <= x[best * stride])) best = k;
  }
  return best;
}

inline std::array<int64_t, Shape::kMaxRank> Strides(const Shape& s) {
  std::array<int64_t, Shape::kMaxRank> strides{};
  int64_t n = 1;
  for (int i = s.rank() - 1; i >= 0; --i) {
    strides[static_cast<size_t>(i)] = n;
    n *= s[i];
  }
  return strides;
}

// Flat position in x of element `flat` of the index tensor, with the coordinate along `axis`
// replaced by `at`.
class AxisIndex {
 public:
  AxisIndex(const Shape& x, const Shape& index, int64_t axis)
      : rank_(x.rank()), axis_(static_cast<int>(axis)), x_(Strides(x)) {
    for (int i = 0; i < rank_; ++i) sizes_[static_cast<size_t>(i)] = index[i];
  }
  int64_t operator()(int64_t flat, int64_t at) const {
    int64_t p = 0;
    for (int i = rank_ - 1; i >= 0; --i) {
      const auto k = static_cast<size_t>(i);
      p += (i == axis_ ? at : flat % sizes_[k]) * x_[k];
      flat /= sizes_[k];
    }
    return p;
  }

 private:
  int rank_, axis_;
  std::array<int64_t, Shape::kMaxRank> sizes_{}, x_;
};

inline void Transpose(const KernelCall& c) {
  ByWidth(c.out().dtype, [&](auto width) {
    using T = decltype(width);
    const auto& perm = c.attr<PermAttrs>().perm;
    const auto from = Strides(c.in(0).shape);
    const Shape& s = c.out().shape;
    for (int64_t i = 0, n = s.elements(); i < n; ++i) {
      int64_t rest = i, at = 0;
      for (int k = s.rank() - 1; k >= 0; --k) {
        at += rest % s[k] * from[static_cast<size_t>(perm[static_cast<size_t>(k)])];
        rest /= s[k];
      }
      MutableData<T>(c.out())[i] = Data<T>(c.in(0))[at];
    }
  });
}

inline void Expand(const KernelCall& c) {
  ByWidth(c.out().dtype, [&](auto width) {
    using T = decltype(width);
    const BroadcastIndex ix(c.in(0).shape, c.out().shape);
    for (int64_t i = 0, n = c.out().elements(); i < n; ++i)
      MutableData<T>(c.out())[i] = Data<T>(c.in(0))[ix(i)];
  });
}

inline void Concat(const KernelCall& c) {
  const int64_t axis = c.attr<AxisAttrs>().axis;
  const Split3 o(c.out().shape, axis);
  const auto width = static_cast<int64_t>(size_of(c.out().dtype));
  int64_t at = 0;
  for (const View& x : c.inputs) {
    const Split3 s(x.shape, axis);
    const int64_t run = s.size * s.inner * width;
    for (int64_t i = 0; i < s.outer && run > 0; ++i) {
      std::memcpy(MutableData<char>(c.out()) + (i * o.size + at) * o.inner * width,
                  Data<char>(x) + i * run, static_cast<size_t>(run));
    }
    at += s.size;
  }
}

inline void Slice(const KernelCall& c) {
  const auto& a = c.attr<SliceAttrs>();
  const Split3 x(c.in(0).shape, a.axis);
  const auto width = static_cast<int64_t>(size_of(c.out().dtype));
  const int64_t run = (a.step == 1 ? a.count : 1) * x.inner * width,
                runs = a.step == 1 ? (a.count > 0 ? 1 : 0) : a.count;
  char* y = MutableData<char>(c.out());
  for (int64_t i = 0; i < x.outer && run > 0; ++i) {
    for (int64_t k = 0; k < runs; ++k, y += run) {
      std::memcpy(y, Data<char>(c.in(0)) + (i * x.size + a.start + k * a.step) * x.inner * width,
                  static_cast<size_t>(run));
    }
  }
}

inline void Unslice(const KernelCall& c) {
  const auto& a = c.attr<UnsliceAttrs>();
  const Split3 x(c.in(0).shape, a.axis);
  const auto width = static_cast<int64_t>(size_of(c.out().dtype));
  char* y = MutableData<char>(c.out());
  if (c.out().elements() > 0) std::memset(y, 0, static_cast<size_t>(c.out().elements() * width));
  const int64_t run = x.inner * width;
  for (int64_t i = 0; i < x.outer && run > 0; ++i) {
    for (int64_t k = 0; k < x.size; ++k) {
      std::memcpy(y + (i * a.size + a.start + k * a.step) * run,
                  Data<char>(c.in(0)) + (i * x.size + k) * run, static_cast<size_t>(run));
    }
  }
}

inline void Pad(const KernelCall& c) {
  const auto& a = c.attr<PadAttrs>();
  const Shape &x = c.in(0).shape, &y = c.out().shape;
  const auto strides = Strides(x);
  ByWidth(c.out().dtype, [&](auto width) {
    using T = decltype(width);
    T filler{};
    store_element(c.out().dtype, &filler, 0, a.value);
    for (int64_t i = 0, n = y.elements(); i < n; ++i) {
      int64_t rest = i, at = 0;
      bool inside = true;
      for (int k = y.rank() - 1; k >= 0; --k) {
        const int64_t p = rest % y[k] - a.before[static_cast<size_t>(k)];
        inside = inside && p >= 0 && p < x[k];
        at += p * strides[static_cast<size_t>(k)];
        rest /= y[k];
      }
      MutableData<T>(c.out())[i] = inside ? Data<T>(c.in(0))[at] : filler;
    }
  });
}

inline void Full(const KernelCall& c) {
  const View& y = c.out();
  ByWidth(y.dtype, [&](auto width) {
    using T = decltype(width);
    T value{};
    store_element(y.dtype, &value, 0, c.attr<FullAttrs>().value);
    std::fill_n(MutableData<T>(y), y.elements(), value);
  });
}

// Elements [begin, end). Between integers the conversion is exact where the value fits.
inline void Cast(const KernelCall& c, int64_t begin, int64_t end) {
  const View &x = c.in(0), &y = c.out();
  const bool integers = !is_float(x.dtype) && !is_float(y.dtype);
  for (int64_t i = begin; i < end; ++i) {
    if (integers)
      StoreInt(y, i, LoadInt(x, i));
    else
      store_element(y.dtype, y.data, i, load_element(x.dtype, x.data, i));
  }
}

// Rows of a table in panels. Their elements lie a line apart, so each costs a line; the few tokens
// of a step do not feel it.
inline void EmbeddingFromPanels(const KernelCall& c) {
  ByWidth(c.out().dtype, [&](auto width) {
    using T = decltype(width);
    const int64_t rows = c.attr<EmbeddingAttrs>().rows, dim = c.out().shape[-1];
    for (int64_t i = 0, n = c.in(0).elements(); i < n; ++i) {
      const int64_t id = LoadInt(c.in(0), i);
      T* y = MutableData<T>(c.out()) + i * dim;
      for (int64_t k = 0; k < dim; ++k) {
        y[k] = id >= 0 && id < rows ? Data<T>(c.in(1))[PackedIndex(dim, id, k)] : T{0};
      }
    }
  });
}

inline void Embedding(const KernelCall& c) {
  if (c.in(1).shape.rank() == 1) return EmbeddingFromPanels(c);
  const auto width = static_cast<int64_t>(size_of(c.out().dtype));
  const int64_t rows = c.in(1).shape[0], run = c.in(1).shape[1] * width;
  for (int64_t i = 0, n = c.in(0).elements(); i < n && run > 0; ++i) {
    const int64_t id = LoadInt(c.in(0), i);
    char* y = MutableData<char>(c.out()) + i * run;
    if (id >= 0 && id < rows)
      std::memcpy(y, Data<char>(c.in(1)) + id * run, static_cast<size_t>(run));
    else
      std::memset(y, 0, static_cast<size_t>(run));
  }
}

template <typename T>
void EmbeddingBackward(const KernelCall& c) {
  const auto& a = c.attr<EmbeddingAttrs>();
  const int64_t dim = c.out().shape[1];
  T* w = MutableData<T>(c.out());
  std::fill_n(w, c.out().elements(), T{0});
  for (int64_t i = 0, n = c.in(0).elements(); i < n; ++i) {
    const int64_t id = LoadInt(c.in(0), i);
    if (id < 0 || id >= a.rows || id == a.padding_idx) continue;
    for (int64_t k = 0; k < dim; ++k) w[id * dim + k] += Data<T>(c.in(1))[i * dim + k];
  }
}

inline void Gather(const KernelCall& c) {
  ByWidth(c.out().dtype, [&](auto width) {
    using T = decltype(width);
    const int64_t axis = c.attr<AxisAttrs>().axis, size = c.in(0).shape[static_cast<int>(axis)];
    const AxisIndex at(c.in(0).shape, c.in(1).shape, axis);
    for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
      const int64_t id = LoadInt(c.in(1), i);
      MutableData<T>(c.out())[i] = id >= 0 && id < size ? Data<T>(c.in(0))[at(i, id)] : T{0};
    }
  });
}

template <typename T, bool kAdd>
void ScatterAs(const KernelCall& c) {
  const int64_t axis = c.attr<AxisAttrs>().axis, size = c.in(0).shape[static_cast<int>(axis)];
  const AxisIndex at(c.in(0).shape, c.in(1).shape, axis);
  T* y = MutableData<T>(c.out());
  if (y != Data<T>(c.in(0))) std::copy_n(Data<T>(c.in(0)), c.out().elements(), y);
  for (int64_t i = 0, n = c.in(1).elements(); i < n; ++i) {
    const int64_t id = LoadInt(c.in(1), i);
    if (id < 0 || id >= size) continue;
    if constexpr (kAdd)
      y[at(i, id)] += Data<T>(c.in(2))[i];
    else
      y[at(i, id)] = Data<T>(c.in(2))[i];
  }
}

inline void Scatter(const KernelCall& c) {
  ByWidth(c.out().dtype, [&](auto width) { ScatterAs<decltype(width), false>(c); });
}

// Rows of axis 1 that begin at `start`, one for all batch entries or one for each; what lies
// outside of the axis counts as absent. f(batch entry, place in the axis, row of the window, rows)
// once per entry.
template <typename F>
void EachWindow(const View& start, int64_t batch, int64_t size, int64_t count, F f) {
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t at = LoadInt(start, start.shape.rank() == 0 ? 0 : b);
    if (at >= size || at <= -count) continue;
    const int64_t first = std::max<int64_t>(0, -at);
    f(b, at + first, first, std::min(count, size - at) - first);
  }
}

inline void WriteRows(const KernelCall& c) {  // base [B, S, ...], rows [B, T, ...], start
  const Shape& s = c.out().shape;
  const int64_t count = c.in(1).shape[1];
  const auto row = static_cast<size_t>(s.product(2, s.rank())) * size_of(c.out().dtype);
  char* out = MutableData<char>(c.out());
  const auto bytes = static_cast<size_t>(s.elements()) * size_of(c.out().dtype);
  if (bytes == 0) return;
  if (c.out().data != c.in(0).data) std::memcpy(out, c.in(0).data, bytes);
  EachWindow(c.in(2), s[0], s[1], count, [&](int64_t b, int64_t at, int64_t first, int64_t n) {
    std::memcpy(out + static_cast<size_t>(b * s[1] + at) * row,
                Data<char>(c.in(1)) + static_cast<size_t>(b * count + first) * row,
                static_cast<size_t>(n) * row);
  });
}

inline void ReadRows(const KernelCall& c) {  // x [B, S, ...], start
  const Shape &s = c.in(0).shape, &z = c.out().shape;
  const auto row = static_cast<size_t>(s.product(2, s.rank())) * size_of(c.out().dtype);
  char* out = MutableData<char>(c.out());
  const auto bytes = static_cast<size_t>(z.elements()) * size_of(c.out().dtype);
  if (bytes == 0) return;
  std::memset(out, 0, bytes);
  EachWindow(c.in(1), s[0], s[1], z[1], [&](int64_t b, int64_t at, int64_t first, int64_t n) {
    std::memcpy(out + static_cast<size_t>(b * z[1] + first) * row,
                Data<char>(c.in(0)) + static_cast<size_t>(b * s[1] + at) * row,
                static_cast<size_t>(n) * row);
  });
}

inline void IndexSelect(const KernelCall& c) {
  const int64_t axis = c.attr<AxisAttrs>().axis;
  const Split3 x(c.in(0).shape, axis), y(c.out().shape, axis);
  const int64_t run = x.inner * static_cast<int64_t>(size_of(c.out().dtype));
  for (int64_t i = 0; i < y.outer && run > 0; ++i) {
    for (int64_t k = 0; k < y.size; ++k) {
      const int64_t id = LoadInt(c.in(1), k);
      char* to = MutableData<char>(c.out()) + (i * y.size + k) * run;
      if (id >= 0 && id < x.size)
        std::memcpy(to, Data<char>(c.in(0)) + (i * x.size + id) * run, static_cast<size_t>(run));
      else
        std::memset(to, 0, static_cast<size_t>(run));
    }
  }
}

template <typename T>
void IndexAdd(const KernelCall& c) {
  const int64_t axis = c.attr<IndexAddAttrs>().axis;
  const Split3 x(c.in(0).shape, axis), y(c.out().shape, axis);
  T* to = MutableData<T>(c.out());
  std::fill_n(to, c.out().elements(), T{0});
  for (int64_t i = 0; i < x.outer; ++i) {
    for (int64_t k = 0; k < x.size; ++k) {
      const int64_t id = LoadInt(c.in(1), k);
      if (id < 0 || id >= y.size) continue;
      for (int64_t j = 0; j < x.inner; ++j)
        to[(i * y.size + id) * y.inner + j] += Data<T>(c.in(0))[(i * x.size + k) * x.inner + j];
    }
  }
}

}  // namespace graft::move
