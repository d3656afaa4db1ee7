// Attributes of ops: plain structs that list their fields once, and a type-erased holder that
// prints and compares them. They live beside the kernels because both the graph and the kernels
// read them.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <typeinfo>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

namespace graft {

namespace detail {
inline std::string field_text(const std::string& v) { return '"' + v + '"'; }
inline std::string field_text(bool v) { return v ? "true" : "false"; }
inline std::string field_text(DType v) { return std::string(name_of(v)); }
inline std::string field_text(const Shape& v) { return v.str(); }
inline std::string field_text(int64_t v) { return fmt::format("{}", v); }
inline std::string field_text(double v) {
  return fmt::format("{}", v);
}  // shortest that reads back
template <typename T>
std::string field_text(const std::vector<T>& v) {
  return fmt::format("[{}]", fmt::join(v, ", "));
}
}  // namespace detail

// Holds one attribute struct by value. A struct qualifies by having
//   template <class F> void fields(F&& f) const { f("name", member); ... }
class Attrs {
 public:
  Attrs() = default;
  template <typename T>
  static Attrs of(T value) {
    Attrs a;
    value.fields([&](std::string_view name, const auto& field) {
      if (!a.text_.empty()) a.text_ += ", ";
      a.text_ += fmt::format("{}={}", name, detail::field_text(field));
    });
    a.type_ = &typeid(T);
    a.value_ = std::make_shared<const T>(std::move(value));
    return a;
  }
  template <typename T>
  const T& as() const {
    if (type_ == nullptr || *type_ != typeid(T)) {
      throw GraphError("attributes of type {} were read as {}", type_ ? type_->name() : "none",
                       typeid(T).name());
    }
    return *static_cast<const T*>(value_.get());
  }
  // "axis=1, keepdim=true": complete, so equal texts of one type mean equal attributes.
  const std::string& str() const { return text_; }
  bool operator==(const Attrs& o) const {
    return text_ == o.text_ && (type_ == o.type_ || (type_ && o.type_ && *type_ == *o.type_));
  }

 private:
  std::shared_ptr<const void> value_;
  const std::type_info* type_ = nullptr;
  std::string text_;
};

// Lists the fields of an attribute struct.
#define GRAFT_FIELDS(...)                     \
  template <class F>                          \
  void fields([[maybe_unused]] F&& f) const { \
    GRAFT_EACH_FIELD(__VA_ARGS__)             \
  }
#define GRAFT_FIELD(name) f(#name, name);
#define GRAFT_PARENS ()
#define GRAFT_EXPAND(...) GRAFT_EXPAND2(GRAFT_EXPAND2(GRAFT_EXPAND2(__VA_ARGS__)))
#define GRAFT_EXPAND2(...) GRAFT_EXPAND1(GRAFT_EXPAND1(GRAFT_EXPAND1(__VA_ARGS__)))
#define GRAFT_EXPAND1(...) __VA_ARGS__
#define GRAFT_EACH_FIELD(...) __VA_OPT__(GRAFT_EXPAND(GRAFT_NEXT_FIELD(__VA_ARGS__)))
#define GRAFT_NEXT_FIELD(first, ...) \
  GRAFT_FIELD(first) __VA_OPT__(GRAFT_NEXT_AGAIN GRAFT_PARENS(__VA_ARGS__))
#define GRAFT_NEXT_AGAIN() GRAFT_NEXT_FIELD

struct NoAttrs {
  GRAFT_FIELDS()
};
struct NameAttrs {  // leaves: input, param
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  GRAFT_FIELDS(name, dtype, shape)
};
struct FullAttrs {
  double value = 0;
  DType dtype = DType::f32;
  Shape shape;
  GRAFT_FIELDS(value, dtype, shape)
};
struct ScalarAttrs {  // scale, add_scalar, pow_scalar
  double value = 0;
  GRAFT_FIELDS(value)
};
struct ClampAttrs {
  double min = 0, max = 0;
  GRAFT_FIELDS(min, max)
};
struct CastAttrs {
  DType dtype = DType::f32;
  GRAFT_FIELDS(dtype)
};
struct DropoutAttrs {
  double p = 0;
  int64_t stream = 0;  // tells the random numbers of one site from another's
  GRAFT_FIELDS(p, stream)
};
struct ReduceAttrs {
  std::vector<int64_t> axes;  // sorted, 0..rank-1
  bool keepdim = false;
  GRAFT_FIELDS(axes, keepdim)
};
struct AxisAttrs {  // softmax, gather, scatter, concat, index_select, ...; 0..rank-1
  int64_t axis = 0;
  GRAFT_FIELDS(axis)
};
struct IndexAddAttrs {  // zeros with `size` entries along axis, to which slices are added
  int64_t axis = 0, size = 0;
  GRAFT_FIELDS(axis, size)
};
struct CumsumAttrs {
  int64_t axis = 0;
  bool reverse = false;
  GRAFT_FIELDS(axis, reverse)
};
struct SliceAttrs {  // `count` entries along axis: start, start + step, ...
  int64_t axis = 0, start = 0, count = 0, step = 1;
  GRAFT_FIELDS(axis, start, count, step)
};
struct UnsliceAttrs {  // the adjoint of slice: zeros of `size` along axis with the slice written in
  int64_t axis = 0, start = 0, step = 1, size = 0;
  GRAFT_FIELDS(axis, start, step, size)
};
struct PadAttrs {  // per axis; negative amounts cut
  std::vector<int64_t> before, after;
  double value = 0;
  GRAFT_FIELDS(before, after, value)
};
struct PermAttrs {
  std::vector<int64_t> perm;
  GRAFT_FIELDS(perm)
};
struct ShapeAttrs {  // reshape, expand
  Shape shape;
  GRAFT_FIELDS(shape)
};
// fused_linear(x, w, bias?, base?): act(scale x W^T + bias + base), or with `backward` x W in place
// of x W^T. w is W [out, in] or its panels (kernels/packed.h).
struct FusedLinearAttrs {
  int64_t out = 0, in = 0;  // of W, whichever way it is used
  bool backward = false;
  double scale = 1;
  std::string activation = "";  // relu, gelu_erf, gelu_tanh, silu, tanh; empty: none
  int64_t features() const { return backward ? out : in; }  // of x
  int64_t columns() const { return backward ? in : out; }   // of the result
  GRAFT_FIELDS(out, in, backward, scale, activation)
};
struct MatmulAttrs {
  bool tx = false, ty = false;
  GRAFT_FIELDS(tx, ty)
};
struct EpsAttrs {  // norms and their gradients
  double eps = 1e-5;
  GRAFT_FIELDS(eps)
};
struct EmbeddingAttrs {
  int64_t rows = 0;          // of the table
  int64_t padding_idx = -1;  // that row gets no gradient; -1: none
  GRAFT_FIELDS(rows, padding_idx)
};
struct RowsAttrs {  // read_rows
  int64_t count = 0;
  GRAFT_FIELDS(count)
};
struct LossAttrs {
  std::string reduction = "mean";  // none, mean, sum
  int64_t ignore_index = -100;     // cross_entropy
  double label_smoothing = 0;      // cross_entropy
  GRAFT_FIELDS(reduction, ignore_index, label_smoothing)
};
// linear_cross_entropy(x, w, target, bias?): cross entropy of softcap tanh(y / softcap), where
// y = scale x W^T + bias
struct HeadLossAttrs {
  std::string reduction = "mean";  // none, mean, sum
  int64_t ignore_index = -100;
  double label_smoothing = 0;
  double scale = 1;
  double softcap = 0;                                      // 0: none
  bool need_dx = true, need_dw = true, need_dbias = true;  // backward: the others have no elements
  GRAFT_FIELDS(reduction, ignore_index, label_smoothing, scale, softcap, need_dx, need_dw,
               need_dbias)
};
struct AttentionAttrs {
  double scale = 1;
  double softcap = 0;  // 0: none; else scores are softcap tanh(q k^T scale / softcap) + bias
  bool causal = false;
  int64_t window =
      0;  // 0: none; else key j is visible to query i only where j > i + S - T - window
  bool bthd =
      true;  // q [B, T, H, D] and k, v [B, S, Hk, D]; else q [B, H, T, D] and k, v [B, Hk, S, D]
  // Of probabilities: the share that becomes 0, while the others are divided by 1 - dropout. Number
  // ((b H + h) T + i) S + j of the stream decides over key j of query i.
  double dropout = 0;
  int64_t stream = 0;
  // attention_backward: which of dq, dk, dv, dbias are wanted; the others have no elements
  bool need_dq = true, need_dk = true, need_dv = true, need_dbias = false;
  GRAFT_FIELDS(scale, softcap, causal, window, bthd, dropout, stream, need_dq, need_dk, need_dv,
               need_dbias)
};
struct SparseAttrs {   // an index list counts through all tensors that share it
  int64_t offset = 0;  // where this tensor begins
  GRAFT_FIELDS(offset)
};
struct HardConcreteAttrs {  // gates stretched to (lower, upper), then cut to [0, 1]
  double lower = -1.5, upper = 1.5;
  int64_t stream = 0;
  GRAFT_FIELDS(lower, upper, stream)
};
struct FastfoodAttrs {  // [k] -> [size]
  int64_t size = 0, k = 0, seed = 0, stream = 0;
  GRAFT_FIELDS(size, k, seed, stream)
};
struct RopeAttrs {
  std::vector<double> inv_freq;  // rotary_dim / 2 frequencies
  double factor = 1;             // cos and sin are multiplied by this
  bool inverse = false;          // the adjoint: rotate back
  bool bthd = true;              // x [B, T, H, D]; else [B, H, T, D]
  GRAFT_FIELDS(inv_freq, factor, inverse, bthd)
};
struct T5BucketAttrs {
  bool bidirectional = true;
  int64_t num_buckets = 32, max_distance = 128;
  GRAFT_FIELDS(bidirectional, num_buckets, max_distance)
};
struct DebertaBucketAttrs {
  int64_t span = 256;          // half of the table's rows
  int64_t max_distance = 512;  // where distances beyond span / 2 are logarithmic; 0: they are not
  GRAFT_FIELDS(span, max_distance)
};

struct ScheduleAttrs {  // lr of a step; the kinds are those of transformers, and `wordnet` (docs:
                        // the task protocol)
  std::string kind = "constant";
  double lr = 0;
  int64_t warmup = 0, total = 0;
  double cycles = 0.5;    // cosine; cosine_with_restarts counts whole ones
  double power = 1;       // polynomial
  double lr_end = 1e-7;   // polynomial
  int64_t timescale = 0;  // inverse_sqrt; 0: the warm-up, or 10000 without one
  GRAFT_FIELDS(kind, lr, warmup, total, cycles, power, lr_end, timescale)
};
struct AdaloraAttrs {  // the budget falls from init to target (sums over all matrices), cubically
  int64_t init = 0, target = 0, tinit = 0, tfinal = 0, delta_t = 1, total = 0;
  GRAFT_FIELDS(init, target, tinit, tfinal, delta_t, total)
};
struct AdaloraImportanceAttrs {  // smoothing of sensitivity and uncertainty, before step `last`
  double beta1 = 0.85, beta2 = 0.85;
  int64_t last = 0;
  GRAFT_FIELDS(beta1, beta2, last)
};
struct SgdAttrs {
  double momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  GRAFT_FIELDS(momentum, dampening, weight_decay, nesterov)
};
struct AdamAttrs {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool decoupled = true;  // AdamW; else the decay is part of the gradient
  bool amsgrad = false;
  GRAFT_FIELDS(beta1, beta2, eps, weight_decay, decoupled, amsgrad)
};
struct LionAttrs {
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
  GRAFT_FIELDS(beta1, beta2, weight_decay)
};
struct RmspropAttrs {
  double alpha = 0.99, eps = 1e-8, weight_decay = 0;
  GRAFT_FIELDS(alpha, eps, weight_decay)
};
struct AdagradAttrs {
  double lr_decay = 0, eps = 1e-10, weight_decay = 0;
  GRAFT_FIELDS(lr_decay, eps, weight_decay)
};
struct AdafactorAttrs {
  bool torch_rule = false;  // torch.optim.Adafactor; else transformers.Adafactor
  double eps1 = 1e-30, eps2 = 1e-3;
  double clip_threshold = 1;  // torch: d
  double decay_rate = -0.8;   // torch: beta2_decay
  double beta1 = -1;          // negative: no first moment
  double weight_decay = 0;
  bool scale_parameter = true, relative_step = false, warmup_init = false;
  GRAFT_FIELDS(torch_rule, eps1, eps2, clip_threshold, decay_rate, beta1, weight_decay,
               scale_parameter, relative_step, warmup_init)
};

}  // namespace graft
