// A loss head that holds one chunk of logits at a time: cross_entropy(linear(x, w, bias)), scaled,
// soft-capped, sliced and reshaped in between, becomes linear_cross_entropy. Runs before
// differentiation, which has its own op for the fused form and would otherwise need the logits.
#pragma once

#include "autograd/builder.h"
#include "kernels/head_loss.h"

namespace graft {

// Fuses where the logits are more than `chunk_bytes`, and where nothing but the loss reads them: a
// named result keeps them. Fewer logits are better kept, since backward computes chunks again.
// Results are equal up to rounding.
Graph fuse_loss(const Graph& graph, int64_t chunk_bytes = kHeadChunkBytes);

// The same while a step is built, when every node counts as a reader; returns what `loss` is now.
Value fuse_loss(Builder& b, Value loss, int64_t chunk_bytes = kHeadChunkBytes);

}  // namespace graft
