// Every op as a function on values: ops::add(b, x, y). They only build nodes; shapes are checked as
// they do. x stands for any shape unless said otherwise; axes may be negative.
#pragma once

#include <optional>
#include <vector>

#include "autograd/builder.h"

namespace graft::ops {

// ---- elementwise, with NumPy broadcasting
Value add(Builder& b, Value x, Value y);
Value sub(Builder& b, Value x, Value y);
Value mul(Builder& b, Value x, Value y);
Value div(Builder& b, Value x, Value y);
Value pow(Builder& b, Value x, Value y);
Value neg(Builder& b, Value x);
Value exp(Builder& b, Value x);
Value log(Builder& b, Value x);
Value sqrt(Builder& b, Value x);
Value rsqrt(Builder& b, Value x);
Value abs(Builder& b, Value x);
Value sign(Builder& b, Value x);  // -1, 0, 1; no gradient
Value sin(Builder& b, Value x);
Value cos(Builder& b, Value x);
Value tanh(Builder& b, Value x);
Value sigmoid(Builder& b, Value x);
Value relu(Builder& b, Value x);
Value gelu_erf(Builder& b, Value x);
Value gelu_tanh(Builder& b, Value x);
Value silu(Builder& b, Value x);
Value softplus(Builder& b, Value x);  // beta 1, identity above 20
Value scale(Builder& b, Value x, double factor);
Value add_scalar(Builder& b, Value x, double c);
Value pow_scalar(Builder& b, Value x, double exponent);
Value clamp(Builder& b, Value x, double min, double max);
Value where(Builder& b, Value cond, Value x, Value y);  // cond integer or bool: nonzero chooses x
Value masked_fill(Builder& b, Value x, Value mask,
                  double value);  // mask nonzero: value; broadcasts to x
Value cast(Builder& b, Value x, DType dtype);
Value stop_gradient(Builder& b, Value x);  // a view that no gradient passes
// rng: i64[2] = (seed, step). Kept entries are divided by 1 - p. p = 0 gives x itself.
Value dropout(Builder& b, Value x, Value rng, double p, int64_t stream);
// The activation of that Hugging Face name (gelu, gelu_new, relu, silu, swish, tanh, ...); throws
// UsageError.
Value activation(Builder& b, Value x, std::string_view name);

// ---- reductions. Empty axes: all.
Value sum(Builder& b, Value x, const std::vector<int64_t>& axes = {}, bool keepdim = false);
Value mean(Builder& b, Value x, const std::vector<int64_t>& axes = {}, bool keepdim = false);
std::pair<Value, Value> max(Builder& b, Value x, int64_t axis,
                            bool keepdim = false);  // values, i64 index of the first
Value cumsum(Builder& b, Value x, int64_t axis, bool reverse = false);
Value sum_to(Builder& b, Value x,
             const Shape& shape);  // the adjoint of broadcasting `shape` to x's
Value l2_norm(Builder& b, const std::vector<Value>& xs);  // scalar: sqrt of the sum of all squares

// ---- shape
Value reshape(Builder& b, Value x, const Shape& shape);
Value transpose(Builder& b, Value x, std::vector<int64_t> perm);
Value expand(Builder& b, Value x, const Shape& shape);
Value concat(Builder& b, std::vector<Value> xs, int64_t axis);
std::vector<Value> split(Builder& b, Value x, const std::vector<int64_t>& sizes, int64_t axis);
Value slice(Builder& b, Value x, int64_t axis, int64_t start, int64_t stop,
            int64_t step = 1);  // Python's rules
Value pad(Builder& b, Value x, std::vector<int64_t> before, std::vector<int64_t> after,
          double value = 0);

// ---- indexing; indices are i64 or i32
Value embedding(Builder& b, Value ids, Value weight, int64_t padding_idx = -1);
Value gather(Builder& b, Value x, Value index, int64_t axis);              // torch.gather
Value scatter(Builder& b, Value x, Value index, Value src, int64_t axis);  // torch.scatter
Value scatter_add(Builder& b, Value x, Value index, Value src, int64_t axis);
Value index_select(Builder& b, Value x, Value index, int64_t axis);

// Rows [start, start + count) of axis 1 of x [B, S, ...]; start is one place or one per batch
// entry. Rows outside of the axis read as zeros.
Value read_rows(Builder& b, Value x, Value start, int64_t count);
// base [B, S, ...] with `rows` [B, T, ...] in place of its rows from `start` on; those that leave
// the axis are dropped. Assigned to a state parameter that is its base (a cache of keys and
// values), it writes into the parameter's own bytes.
Value write_rows(Builder& b, Value base, Value rows, Value start);

// ---- products
Value matmul(Builder& b, Value x, Value y, bool tx = false,
             bool ty = false);                                // batch axes broadcast
Value linear(Builder& b, Value x, Value w, Value bias = {});  // x [.., in], w [out, in], bias [out]

// ---- norms and softmax
Value softmax(Builder& b, Value x, int64_t axis = -1);
Value log_softmax(Builder& b, Value x, int64_t axis = -1);
Value layer_norm(Builder& b, Value x, Value weight, Value bias,
                 double eps);  // last axis; weight and bias may be absent
Value rms_norm(Builder& b, Value x, Value weight, double eps);

// ---- losses. reduction: none, mean, sum
Value cross_entropy(Builder& b, Value logits, Value target, const std::string& reduction = "mean",
                    int64_t ignore_index = -100,
                    double label_smoothing = 0);  // logits [N, C], target [N]
// cross_entropy(linear(x, w, bias), target), the logits in chunks of at most 4 MB: forward keeps
// two numbers per row, backward computes the chunks again. x [N, C], w [V, C], bias [V] or absent.
Value linear_cross_entropy(Builder& b, Value x, Value w, Value bias, Value target,
                           const HeadLossAttrs& attrs = {});
Value mse(Builder& b, Value x, Value y, const std::string& reduction = "mean");
Value bce_with_logits(Builder& b, Value x, Value y, Value pos_weight = {},
                      const std::string& reduction = "mean");

// ---- updates of a weight in fewer numbers than it has
// w + values[j] at flat position index[j] - offset, for entries inside w. index i64 [k], ascending.
Value sparse_add(Builder& b, Value w, Value values, Value index, int64_t offset);
// Gates in [0, 1] (1712.01312): drawn from rng as for dropout, or the median where rng is absent.
Value hard_concrete(Builder& b, Value alpha, Value rng, double lower, double upper, int64_t stream);
// v [k] -> [size]: a random subspace that keeps lengths on average; its numbers depend on (seed,
// stream).
Value fastfood(Builder& b, Value v, int64_t size, int64_t seed, int64_t stream);

// ---- attention and positions
// q [B,T,H,D], k and v [B,S,Hk,D] (bthd) or heads before time; head i of q reads head i / (H/Hk).
// scores = q k^T scale + bias (bias broadcasts to [B,H,T,S]); keep [B,S]: 0 hides the key; causal:
// key j visible to query i where j <= i + S - T; window. softcap c bounds what q and k say:
// scores = c tanh(q k^T scale / c) + bias. With dropout of probabilities it reads rng as dropout()
// does, and neither mask nor probabilities are kept.
Value attention(Builder& b, Value q, Value k, Value v, Value bias, Value keep,
                const AttentionAttrs& attrs, Value rng = {});
Value rope(Builder& b, Value x, Value positions, const RopeAttrs& attrs);  // positions [B, T]
// Rows of a table of relative positions for distances rel, i64.
Value t5_bucket(Builder& b, Value rel, const T5BucketAttrs& attrs);
Value deberta_bucket(Builder& b, Value rel, const DebertaBucketAttrs& attrs);

}  // namespace graft::ops
