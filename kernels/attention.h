// Sizes, strides and visibility of attention: what the reference and the CPU kernels agree on.
#pragma once

#include <algorithm>

#include "kernels/broadcast.h"

namespace graft {

struct AttentionShape {
  int64_t batch, t, s, heads, kv_heads, dim;
  int64_t q_row, q_head, q_batch;  // strides, in elements, of q, out and their gradients
  int64_t k_row, k_head, k_batch;  // of k, v and their gradients

  AttentionShape(const Shape& q, const Shape& k, bool bthd) {
    const int time = bthd ? 1 : 2, head = bthd ? 2 : 1;
    batch = q[0], t = q[time], s = k[time], heads = q[head], kv_heads = k[head], dim = q[3];
    q_row = bthd ? heads * dim : dim, q_head = bthd ? dim : t * dim, q_batch = t * heads * dim;
    k_row = bthd ? kv_heads * dim : dim, k_head = bthd ? dim : s * dim,
    k_batch = s * kv_heads * dim;
  }
  int64_t group() const { return heads / kv_heads; }

  // Where a score or probability stands in [B, H, T, S].
  int64_t score_at(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return ((b * heads + h) * t + i) * s + j;
  }

  // Keys [first, last) may be visible to query i; `keep` is separate.
  int64_t first_key(int64_t i, const AttentionAttrs& a) const {
    return a.window > 0 ? std::clamp<int64_t>(i + s - t - a.window + 1, 0, s) : 0;
  }
  int64_t last_key(int64_t i, const AttentionAttrs& a) const {
    return a.causal ? std::clamp<int64_t>(i + s - t + 1, 0, s) : s;
  }
};

}  // namespace graft
