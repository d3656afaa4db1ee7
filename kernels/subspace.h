// Updates of a weight that live in fewer numbers than the weight: chosen entries (methods.md 4.5,
// 4.6) and the random subspace of Fastfood (5.1). Reference and CPU share these loops over a
// floating type; the Walsh-Hadamard transform is given by each.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "core/random.h"
#include "kernels/kernel.h"

namespace graft::subspace {

constexpr int64_t kGrain = 8192;

// Entries of a sorted index list that fall into [offset, offset + size).
struct Entries {
  const int64_t *begin, *end;
  int64_t first;  // of them in the list

  Entries(const View& index, int64_t offset, int64_t size) {
    const int64_t* all = index.as<int64_t>();
    const int64_t* stop = all + index.elements();
    begin = std::lower_bound(all, stop, offset);
    end = std::lower_bound(begin, stop, offset + size);
    first = begin - all;
  }
};

// w + a tensor that is zero but for values[j] at index[j] - offset.
template <typename T>
void SparseAdd(const KernelCall& c) {
  const T *w = c.in(0).template as<T>(), *values = c.in(1).template as<T>();
  T* out = c.out().template as<T>();
  const int64_t n = c.out().elements(), offset = c.attr<SparseAttrs>().offset;
  if (out != w) {
    parallel_for(n, kGrain, [&](int64_t from, int64_t to) {
      std::memcpy(out + from, w + from, static_cast<size_t>(to - from) * sizeof(T));
    });
  }
  const Entries e(c.in(2), offset, n);
  for (const int64_t* i = e.begin; i < e.end; ++i) {
    // A list from a file may be unsorted: entries out of range are left out, never written.
    if (*i >= offset && *i - offset < n) out[*i - offset] += values[e.first + (i - e.begin)];
  }
}

// out[j] = g[index[j] - offset] where that is an entry of g, else 0: the adjoint of SparseAdd.
template <typename T>
void SparseGather(const KernelCall& c) {
  const T* g = c.in(0).template as<T>();
  T* out = c.out().template as<T>();
  const int64_t n = c.in(0).elements(), offset = c.attr<SparseAttrs>().offset;
  std::fill_n(out, c.out().elements(), T{0});
  const Entries e(c.in(1), offset, n);
  for (const int64_t* i = e.begin; i < e.end; ++i) {
    if (*i >= offset && *i - offset < n) out[e.first + (i - e.begin)] = g[*i - offset];
  }
}

// What is random in Fastfood, per tensor: G ~ N(0, 1) divided by the normalization
// c = sqrt(L sum G^2) sqrt(D / L), a permutation of L entries, and k signs.
template <typename T>
void FastfoodDraw(const KernelCall& c) {
  const auto& a = c.attr<FastfoodAttrs>();
  const auto seed = static_cast<uint64_t>(a.seed), stream = static_cast<uint64_t>(a.stream);
  T *gauss = c.out(0).template as<T>(), *signs = c.out(2).template as<T>();
  auto* order = c.out(1).template as<int32_t>();
  const int64_t length = c.out(0).elements(), k = c.out(2).elements();
  const RandomStream normal(seed, stream, 1), swap(seed, stream, 2), sign(seed, stream, 3);
  double squares = 0;
  for (int64_t i = 0; i < length; ++i) {
    const double g = normal.normal(static_cast<uint64_t>(i));
    gauss[i] = static_cast<T>(g);
    squares += g * g;
    order[i] = static_cast<int32_t>(i);
  }
  const double scale = 1 / std::sqrt(squares * static_cast<double>(a.size));
  for (int64_t i = 0; i < length; ++i) {
    gauss[i] = static_cast<T>(static_cast<double>(gauss[i]) * scale);
  }
  for (int64_t i = length - 1; i > 0; --i) {  // Fisher and Yates; the bias of 2^-32 does not matter
    const uint64_t bits = swap.bits(static_cast<uint64_t>(i));
    std::swap(order[i], order[(bits * static_cast<uint64_t>(i + 1)) >> 32]);
  }
  for (int64_t i = 0; i < k; ++i) {
    signs[i] = (sign.bits(static_cast<uint64_t>(i)) & 1) != 0 ? T{1} : T{-1};
  }
}

template <typename T>
size_t FastfoodWorkspace(const KernelCall& c) {
  return 2 * static_cast<size_t>(c.in(1).elements()) * sizeof(T);
}

// v, gauss, permutation, signs -> the first D of H G Pi H B pad(v).
template <typename T, void (*kTransform)(T*, int64_t)>
void Fastfood(const KernelCall& c) {
  const T *v = c.in(0).template as<T>(), *gauss = c.in(1).template as<T>(),
          *signs = c.in(3).template as<T>();
  const auto* order = c.in(2).template as<int32_t>();
  const int64_t length = c.in(1).elements(), k = c.in(3).elements();
  T *x = static_cast<T*>(c.workspace), *y = x + length;
  for (int64_t i = 0; i < k; ++i) x[i] = v[i] * signs[i];
  std::fill(x + k, x + length, T{0});
  kTransform(x, length);
  parallel_for(length, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = gauss[i] * x[order[i]];
  });
  kTransform(y, length);
  std::memcpy(c.out().data, y, static_cast<size_t>(c.out().elements()) * sizeof(T));
}

// g, gauss, permutation, signs -> the first k of B H Pi^T G H pad(g), zeros behind them.
template <typename T, void (*kTransform)(T*, int64_t)>
void FastfoodAdjoint(const KernelCall& c) {
  const T *g = c.in(0).template as<T>(), *gauss = c.in(1).template as<T>(),
          *signs = c.in(3).template as<T>();
  const auto* order = c.in(2).template as<int32_t>();
  const int64_t length = c.in(1).elements(), k = c.in(3).elements(), n = c.in(0).elements();
  T *x = static_cast<T*>(c.workspace), *y = x + length, *out = c.out().template as<T>();
  std::memcpy(x, g, static_cast<size_t>(n) * sizeof(T));
  std::fill(x + n, x + length, T{0});
  kTransform(x, length);
  parallel_for(length, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[order[i]] = gauss[i] * x[i];
  });
  kTransform(y, length);
  for (int64_t i = 0; i < k; ++i) out[i] = y[i] * signs[i];
  std::fill(out + k, out + c.out().elements(), T{0});
}

}  // namespace graft::subspace
