// Rotary positions and T5 buckets: cheap beside the products around them, so one loop serves
// reference and CPU.
#pragma once

#include <cmath>

#include "core/parallel.h"
#include "kernels/broadcast.h"

namespace graft {

// Hugging Face's LLaMA convention: channel i turns with channel i + rotary_dim / 2. Angles are
// double, so long positions stay exact.
template <typename T>
void Rope(const KernelCall& c) {
  const auto& a = c.attr<RopeAttrs>();
  const Shape& s = c.in(0).shape;
  const int64_t batch = s[0], time = s[a.bthd ? 1 : 2], heads = s[a.bthd ? 2 : 1], dim = s[3];
  const auto half = static_cast<int64_t>(a.inv_freq.size());
  const int64_t row = a.bthd ? heads * dim : dim, head = a.bthd ? dim : time * dim;
  parallel_for(batch * time, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto position = static_cast<double>(LoadInt(c.in(1), i));
      const int64_t at = i / time * time * heads * dim + i % time * row;
      for (int64_t k = 0; k < half; ++k) {
        const double angle = position * a.inv_freq[static_cast<size_t>(k)];
        const T cos = static_cast<T>(std::cos(angle) * a.factor);
        const T sin = static_cast<T>((a.inverse ? -std::sin(angle) : std::sin(angle)) * a.factor);
        for (int64_t h = 0; h < heads; ++h) {
          const T* x = c.in(0).template as<T>() + at + h * head;
          T* y = c.out().template as<T>() + at + h * head;
          const T first = x[k], second = x[k + half];
          y[k] = first * cos - second * sin;
          y[k + half] = second * cos + first * sin;
        }
      }
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t k = 2 * half; k < dim; ++k) {
          c.out().template as<T>()[at + h * head + k] = c.in(0).template as<T>()[at + h * head + k];
        }
      }
    }
  });
}

// transformers' T5Attention._relative_position_bucket; its logarithm is float32, and so are the
// boundaries here.
inline void T5Bucket(const KernelCall& c) {
  const auto& a = c.attr<T5BucketAttrs>();
  const int64_t buckets = a.bidirectional ? a.num_buckets / 2 : a.num_buckets, exact = buckets / 2;
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    int64_t rel = LoadInt(c.in(0), i), base = 0;
    if (a.bidirectional) {
      base = rel > 0 ? buckets : 0;
      rel = rel < 0 ? -rel : rel;
    } else {
      rel = rel < 0 ? -rel : 0;
    }
    if (rel >= exact) {
      const float ratio = std::log(static_cast<float>(rel) / static_cast<float>(exact)) /
                          static_cast<float>(std::log(static_cast<double>(a.max_distance) /
                                                      static_cast<double>(exact)));
      const auto large = exact + static_cast<int64_t>(ratio * static_cast<float>(buckets - exact));
      rel = large < buckets - 1 ? large : buckets - 1;
    }
    StoreInt(c.out(), i, base + rel);
  }
}

// transformers' make_log_bucket_position in modeling_deberta_v2, and the row of the table that a
// bucket has there; float32 like the reference.
inline void DebertaBucket(const KernelCall& c) {
  const auto& a = c.attr<DebertaBucketAttrs>();
  const int64_t middle = a.span / 2;
  const float range = std::log(
      static_cast<float>(static_cast<double>(a.max_distance - 1) / static_cast<double>(middle)));
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    const int64_t rel = LoadInt(c.in(0), i), distance = rel < 0 ? -rel : rel;
    int64_t bucket = rel;
    if (a.max_distance > 0 && distance > middle) {
      const float ratio =
          std::log(static_cast<float>(distance) / static_cast<float>(middle)) / range;
      const auto large =
          middle + static_cast<int64_t>(std::ceil(ratio * static_cast<float>(middle - 1)));
      bucket = rel < 0 ? -large : large;
    }
    const int64_t row = bucket + a.span, last = 2 * a.span - 1;
    StoreInt(c.out(), i, row < 0 ? 0 : row > last ? last : row);
  }
}

}  // namespace graft
