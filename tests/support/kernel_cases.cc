#include "tests/support/kernel_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "autograd/op.h"
#include "core/random.h"

namespace graft::testing {
namespace {

constexpr std::byte kGuard{0x5A};
constexpr size_t kGuardBytes = 128;

std::vector<Type> output_types(std::string_view op, const KernelCase& c) {
  std::vector<std::optional<Type>> in;
  for (const Tensor& t : c.inputs) {
    in.push_back(t.empty() ? std::nullopt : std::optional(Type{t.dtype(), t.shape()}));
  }
  return infer_types(find_op(op), c.attrs, in);
}

// Memory of one operand. What is written lies between guards, so many elements behind an aligned
// address; what is only read ends where its block ends, so that the address sanitizer sees a read
// behind it (and begins at any address that its length gives).
class Operand {
 public:
  Operand(DType dtype, const Shape& shape, int64_t misaligned, bool written)
      : type_{dtype, shape},
        size_((2 * kGuardBytes + static_cast<size_t>(misaligned) * size_of(dtype) + type_.bytes() +
               63) /
              64 * 64),
        start_(written ? kGuardBytes + static_cast<size_t>(misaligned) * size_of(dtype)
                       : size_ - type_.bytes()),
        bytes_(static_cast<std::byte*>(std::aligned_alloc(64, size_)), std::free) {
    std::fill_n(bytes_.get(), size_, kGuard);
  }
  void* data() const { return bytes_.get() + start_; }
  void fill(std::byte value) { std::fill_n(bytes_.get() + start_, type_.bytes(), value); }
  void set(const Tensor& t) {
    if (t.size_bytes() > 0) std::memcpy(data(), t.bytes(), t.size_bytes());
  }
  bool holds(const Tensor& t) const {
    return t.size_bytes() == 0 || std::memcmp(data(), t.bytes(), t.size_bytes()) == 0;
  }
  bool guards_intact() const {
    const auto is_guard = [](std::byte b) { return b == kGuard; };
    return std::all_of(bytes_.get(), bytes_.get() + start_, is_guard) &&
           std::all_of(bytes_.get() + start_ + type_.bytes(), bytes_.get() + size_, is_guard);
  }
  View view() const { return {data(), type_.dtype, type_.shape, true}; }
  Tensor tensor() const {
    Tensor t(type_.dtype, type_.shape);
    if (t.size_bytes() > 0) std::memcpy(t.bytes(), data(), t.size_bytes());
    return t;
  }

 private:
  Type type_;
  size_t size_, start_;
  std::unique_ptr<std::byte, void (*)(void*)> bytes_;
};

}  // namespace

std::vector<Tensor> run_kernel(Backend backend, std::string_view op, const KernelCase& c,
                               const Placement& placement) {
  const KernelEntry* kernel = find_kernel(backend, op);
  if (kernel == nullptr) {
    ADD_FAILURE() << "op '" << op << "' has no " << name_of(backend) << " kernel";
    return {};
  }
  const auto run_type = [&](DType d) {
    return backend == Backend::ref && is_float(d) ? DType::f64 : d;
  };
  const OpDef& def = find_op(op);
  std::vector<Operand> in, out;
  std::vector<View> in_views, out_views;
  std::vector<Tensor> given;
  for (const Tensor& t : c.inputs) {
    given.push_back(t.empty() ? t : t.cast(run_type(t.dtype())));
    in.emplace_back(given.back().dtype(), t.shape(), 0, false);
    if (!t.empty()) in.back().set(given.back());
    in_views.push_back(t.empty() ? View{.present = false} : in.back().view());
  }
  std::vector<bool> replaced(c.inputs.size());  // the bytes of this input are an output's
  const std::vector<Type> types = output_types(op, c);
  for (size_t k = 0; k < types.size(); ++k) {
    out.emplace_back(run_type(types[k].dtype), types[k].shape, placement.misaligned, true);
    out.back().fill(std::byte{0xFF});  // NaN, or -1
    const int from = def.updates[k] >= 0 ? def.updates[k] : k == 0 ? placement.in_place : -1;
    if (from >= 0) {
      out.back().set(given[static_cast<size_t>(from)]);
      in_views[static_cast<size_t>(from)].data = out.back().data();
      replaced[static_cast<size_t>(from)] = true;
    }
    out_views.push_back(out.back().view());
  }
  KernelCall call{in_views, out_views, &c.attrs, nullptr};
  std::unique_ptr<Operand> workspace;
  if (kernel->workspace != nullptr) {
    call.workspace_bytes = kernel->workspace(call);
    workspace = std::make_unique<Operand>(
        DType::u8, Shape{static_cast<int64_t>(call.workspace_bytes)}, 0, true);
    workspace->fill(std::byte{0xFF});
    call.workspace = workspace->data();
  }
  kernel->run(call);
  std::vector<Tensor> results;
  for (const Operand& o : out) {
    EXPECT_TRUE(o.guards_intact()) << "written outside of the output";
    results.push_back(o.tensor());
  }
  EXPECT_TRUE(workspace == nullptr || workspace->guards_intact())
      << "written outside of the workspace";
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_TRUE(given[i].empty() || replaced[i] || in[i].holds(given[i]))
        << "operand " << i << " was changed";
  }
  return results;
}

bool allows_in_place(std::string_view op, const KernelCase& c, size_t i) {
  if ((find_op(op).in_place >> i & 1) == 0 || c.inputs[i].empty()) return false;
  return Type{c.inputs[i].dtype(), c.inputs[i].shape()} == output_types(op, c)[0];
}

Reference::Reference(std::string_view op, const KernelCase& c)
    : c_(c), want_(run_kernel(Backend::ref, op, c)) {
  if (c.tolerance.terms > 0) {
    KernelCase magnitudes = c;
    for (Tensor& t : magnitudes.inputs) {
      if (t.empty() || !is_float(t.dtype())) continue;
      t = t.clone();
      for (float& x : t.span<float>()) x = std::fabs(x);
    }
    terms_ = run_kernel(Backend::ref, op, magnitudes);
  }
  const auto largest = [](const Tensor& t) {
    double most = 0;
    for (int64_t i = 0; i < t.elements() && !t.empty() && is_float(t.dtype()); ++i) {
      const double x = load_element(t.dtype(), t.bytes(), i);
      most = std::isfinite(x) ? std::max(most, std::fabs(x)) : most;
    }
    return most;
  };
  for (const Tensor& t : want_) largest_.push_back(largest(t));
  for (const Tensor& t : c.inputs) operand_.push_back(largest(t));
}

double Reference::bound(size_t output, int64_t i) const {
  const auto finite = [](double x) { return std::isfinite(x) ? std::fabs(x) : 0; };
  const Tolerance& t = c_.tolerance;
  double input = 0;
  for (size_t k = 0; k < c_.inputs.size(); ++k) {
    const Tensor& x = c_.inputs[k];
    if (x.empty() || x.dtype() != DType::f32) continue;
    const bool same = x.shape() == want_[output].shape();
    input = std::max(input, same ? finite(static_cast<double>(x.data<float>()[i])) : operand_[k]);
  }
  const double magnitude =
      t.result * finite(want_[output].data<double>()[i]) + t.largest * largest_[output] +
      (terms_.empty() ? 0 : t.terms * terms_[output].data<double>()[i]) + t.input * input;
  return 0x1p-23 * magnitude + t.floor;
}

std::string Reference::mismatch(const std::vector<Tensor>& got) const {
  double worst = 1;
  std::string text;
  if (got.size() != want_.size()) return "the number of outputs differs";
  for (size_t o = 0; o < got.size(); ++o) {
    const Tensor& g = got[o];
    if (g.dtype() != DType::f32) {  // integers, and narrow floats: the definition, rounded once
      const Tensor w = want_[o].cast(g.dtype());
      if (w.size_bytes() > 0 && std::memcmp(g.bytes(), w.bytes(), w.size_bytes()) != 0) {
        return fmt::format("output {} ({}) is not exactly its definition", o, name_of(g.dtype()));
      }
      continue;
    }
    for (int64_t i = 0; i < g.elements(); ++i) {
      const double x = static_cast<double>(g.data<float>()[i]), y = want_[o].data<double>()[i];
      if (x == static_cast<double>(static_cast<float>(y)) || (std::isnan(x) && std::isnan(y)))
        continue;
      const double allowed = bound(o, i);
      // What rounds to infinity may also round to the largest float, and the other way round.
      const double most = std::numeric_limits<float>::max();
      const bool border = std::isinf(x) && std::fabs(y) + allowed >= most && x * y > 0;
      if (border) continue;
      const double excess =
          std::isfinite(x) && std::isfinite(y) ? std::fabs(x - y) / allowed : INFINITY;
      if (excess > worst || (std::isinf(excess) && text.empty())) {
        worst = excess;
        text = fmt::format("output {} element {}: {} instead of {}, {:.3g} times the tolerance", o,
                           i, x, y, excess);
        for (const Tensor& t : c_.inputs) {
          if (!t.empty() && t.dtype() == DType::f32 && t.elements() == g.elements())
            text += fmt::format("; operand {}", t.data<float>()[i]);
        }
      }
    }
  }
  return text;
}

Tensor floats(const Shape& shape, uint64_t seed, double low, double high) {
  Tensor t(DType::f32, shape);
  const RandomStream random(seed, 0);
  for (int64_t i = 0; i < t.elements(); ++i) {
    const double u = static_cast<double>(random.uniform(static_cast<uint64_t>(i)));
    t.data<float>()[i] = static_cast<float>(low + (high - low) * u);
  }
  return t;
}

Tensor ints(const Shape& shape, int64_t low, int64_t high, uint64_t seed, DType dtype) {
  Tensor t(DType::i64, shape);
  const RandomStream random(seed, 1);
  const auto range = static_cast<uint64_t>(std::max<int64_t>(1, high - low));
  for (int64_t i = 0; i < t.elements(); ++i) {
    const uint64_t draw = random.bits(static_cast<uint64_t>(i)) % range;
    t.data<int64_t>()[i] = low + static_cast<int64_t>(draw);
  }
  return t.cast(dtype);
}

Tensor values(const std::vector<float>& v) {
  return Tensor::from<float>({static_cast<int64_t>(v.size())}, v);
}
Tensor int_values(const std::vector<int64_t>& v) {
  return Tensor::from<int64_t>({static_cast<int64_t>(v.size())}, v);
}

const std::vector<KernelFamily>& kernel_families() {
  static const std::vector<KernelFamily> families = {{"elementwise", elementwise_kernel_rows()},
                                                     {"reduce", reduce_kernel_rows()},
                                                     {"shape", shape_kernel_rows()},
                                                     {"index", index_kernel_rows()},
                                                     {"matmul", matmul_kernel_rows()},
                                                     {"norm", norm_kernel_rows()},
                                                     {"loss", loss_kernel_rows()},
                                                     {"attention", attention_kernel_rows()},
                                                     {"optimizer", optimizer_kernel_rows()},
                                                     {"subspace", subspace_kernel_rows()}};
  return families;
}

}  // namespace graft::testing
