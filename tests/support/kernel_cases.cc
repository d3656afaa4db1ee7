#include "tests/support/kernel_cases.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>

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

// Memory that ends at a page nobody may touch: what reads or writes behind it crashes the test.
// Blocks of one size are kept for the next operand.
class Pages {
 public:
  explicit Pages(size_t bytes) : blocks_((bytes + kBlock - 1) / kBlock + (bytes == 0)) {
    if (blocks_ == 1 && !spare().empty()) {
      data_ = spare().back();
      spare().pop_back();
      return;
    }
    void* p =
        mmap(nullptr, size() + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(p);
    if (mprotect(end(), kPage, PROT_NONE) != 0) throw std::bad_alloc();
  }
  ~Pages() {
    if (data_ == nullptr) return;
    if (blocks_ == 1)
      spare().push_back(data_);
    else
      munmap(data_, size() + kPage);
  }
  Pages(Pages&& other) noexcept
      : blocks_(other.blocks_), data_(std::exchange(other.data_, nullptr)) {}
  std::byte* end() const { return data_ + size(); }

 private:
  static constexpr size_t kPage = 4096, kBlock = 4 * kPage;
  static std::vector<std::byte*>& spare() {
    static std::vector<std::byte*> blocks;
    return blocks;
  }
  size_t size() const { return blocks_ * kBlock; }
  size_t blocks_;
  std::byte* data_ = nullptr;
};

// One operand. Aligned by chance and with its end at the untouchable page; or, where `misaligned`
// is positive, that many elements behind an aligned address and between guards.
class Operand {
 public:
  Operand(DType dtype, const Shape& shape, int64_t misaligned)
      : type_{dtype, shape},
        before_(kGuardBytes + static_cast<size_t>(misaligned) * size_of(dtype)),
        behind_(misaligned > 0 ? kGuardBytes + 63 : 0),
        pages_(before_ + type_.bytes() + 64 + behind_),
        data_(pages_.end() - behind_ - type_.bytes()) {
    if (misaligned > 0) {
      const auto address = reinterpret_cast<uintptr_t>(data_);
      data_ -= (address - static_cast<uintptr_t>(misaligned) * size_of(dtype)) % 64;
    }
    std::fill(begin(), pages_.end(), kGuard);
  }
  void* data() const { return data_; }
  void fill(std::byte value) { std::fill_n(data_, type_.bytes(), value); }
  void set(const Tensor& t) {
    if (t.size_bytes() > 0) std::memcpy(data_, t.bytes(), t.size_bytes());
  }
  bool holds(const Tensor& t) const {
    return t.size_bytes() == 0 || std::memcmp(data_, t.bytes(), t.size_bytes()) == 0;
  }
  bool guards_intact() const {
    const auto is_guard = [](std::byte b) { return b == kGuard; };
    return std::all_of(begin(), data_, is_guard) &&
           std::all_of(data_ + type_.bytes(), pages_.end(), is_guard);
  }
  View view() const { return {data_, type_.dtype, type_.shape, true}; }
  Tensor tensor() const {
    Tensor t(type_.dtype, type_.shape);
    if (t.size_bytes() > 0) std::memcpy(t.bytes(), data_, t.size_bytes());
    return t;
  }

 private:
  std::byte* begin() const { return data_ - before_; }
  Type type_;
  size_t before_, behind_;
  Pages pages_;
  std::byte* data_;
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
    in.emplace_back(given.back().dtype(), t.shape(), placement.misaligned);
    if (!t.empty()) in.back().set(given.back());
    in_views.push_back(t.empty() ? View{.present = false} : in.back().view());
  }
  std::vector<bool> replaced(c.inputs.size());  // the bytes of this input are an output's
  const std::vector<Type> types = output_types(op, c);
  for (size_t k = 0; k < types.size(); ++k) {
    out.emplace_back(run_type(types[k].dtype), types[k].shape, placement.misaligned);
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
    const size_t rounded = (call.workspace_bytes + 63) / 64 * 64;  // so that it begins aligned
    workspace = std::make_unique<Operand>(DType::u8, Shape{static_cast<int64_t>(rounded)}, 0);
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
  if (!find_op(op).may_overwrite(i) || c.inputs[i].empty()) return false;
  return Type{c.inputs[i].dtype(), c.inputs[i].shape()} == output_types(op, c)[0];
}

Reference::Reference(std::string_view op, const KernelCase& c)
    : c_(c), want_(run_kernel(Backend::ref, op, c)) {
  if (c.tolerance.terms > 0) {
    KernelCase magnitudes = c;
    for (Tensor& t : magnitudes.inputs) {
      if (t.empty() || !is_float(t.dtype())) continue;
      t = t.cast(DType::f32).clone();
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
      if (c_.tolerance.codes > 0 && g.dtype() == DType::u8) {
        const auto got_codes = g.span<uint8_t>(), codes = w.span<uint8_t>();
        for (size_t i = 0; i < codes.size(); ++i) {
          if (std::abs(got_codes[i] - codes[i]) > c_.tolerance.codes)
            return fmt::format("output {} element {}: code {} instead of {}", o, i, got_codes[i],
                               codes[i]);
        }
        continue;
      }
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
                                                     {"head_loss", head_loss_kernel_rows()},
                                                     {"attention", attention_kernel_rows()},
                                                     {"optimizer", optimizer_kernel_rows()},
                                                     {"subspace", subspace_kernel_rows()}};
  return families;
}

}  // namespace graft::testing
