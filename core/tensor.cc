#include "core/tensor.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "core/parallel.h"

namespace graft {
namespace {

// How elements of a type stand in memory and what they mean; one loop per pair of types, so that
// widening the weights of a large model is bound by memory.
template <typename T>
struct Plain {
  using Bits = T;
  static T load(T bits) { return bits; }
  template <typename V>
  static T store(V v) {
    return static_cast<T>(v);
  }
};
struct Bf16 {
  using Bits = uint16_t;
  static float load(uint16_t bits) { return bf16_to_float(bits); }
  template <typename V>
  static uint16_t store(V v) {
    return float_to_bf16(static_cast<float>(v));
  }
};
struct F16 {
  using Bits = uint16_t;
  static float load(uint16_t bits) { return f16_to_float(bits); }
  template <typename V>
  static uint16_t store(V v) {
    return float_to_f16(static_cast<float>(v));
  }
};
struct Boolean {
  using Bits = uint8_t;
  static uint8_t load(uint8_t bits) { return bits; }
  template <typename V>
  static uint8_t store(V v) {
    return v != 0;
  }
};

template <typename F>
void with_type(DType dtype, F f) {
  switch (dtype) {
    case DType::f32:
      return f(Plain<float>());
    case DType::f64:
      return f(Plain<double>());
    case DType::bf16:
      return f(Bf16());
    case DType::f16:
      return f(F16());
    case DType::i32:
      return f(Plain<int32_t>());
    case DType::i64:
      return f(Plain<int64_t>());
    case DType::u8:
      return f(Plain<uint8_t>());
    case DType::boolean:
      return f(Boolean());
  }
}

constexpr size_t kHuge = size_t{2} << 20;

// Large blocks come from the system and go back to it: in the heap, the holes that the 32-bit forms
// of a model's weights leave are not filled again. The system's pages are zero.
std::shared_ptr<void> map_aligned(size_t bytes) {
  const size_t whole = bytes + kHuge;
  void* p = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw Error(fmt::format("cannot allocate {} bytes: out of memory", bytes));
  void* aligned = p;
  size_t space = whole;
  std::align(kHuge, bytes, aligned, space);
  madvise(aligned, bytes, MADV_HUGEPAGE);  // a hint: packed operands gain 2-3 %
  return {aligned, [p, whole](void*) { munmap(p, whole); }};
}

}  // namespace

std::shared_ptr<void> allocate_aligned(size_t bytes) {
  constexpr size_t kAlignment = 64;
  if (bytes > std::numeric_limits<size_t>::max() - kHuge) {
    throw Error(fmt::format("cannot allocate {} bytes", bytes));
  }
  if (bytes >= 2 * kHuge) return map_aligned(bytes);
  const size_t rounded = std::max((bytes + kAlignment - 1) / kAlignment, size_t{1}) * kAlignment;
  void* p = std::aligned_alloc(kAlignment, rounded);
  if (p == nullptr) throw Error(fmt::format("cannot allocate {} bytes: out of memory", bytes));
  std::memset(p, 0, rounded);
  return {p, [](void* q) { std::free(q); }};
}

Tensor::Tensor(DType dtype, const Shape& shape) : dtype_(dtype), shape_(shape) {
  auto memory = allocate_aligned(size_bytes());
  bytes_ = memory.get();
  owner_ = std::move(memory);
}

Tensor::Tensor(DType dtype, const Shape& shape, void* bytes, std::shared_ptr<const void> owner,
               Backing backing)
    : dtype_(dtype), shape_(shape), bytes_(bytes), owner_(std::move(owner)), backing_(backing) {}

void Tensor::release_pages() const {
  if (!mapped()) return;
  // Whole pages only: their neighbours at the ends belong to other tensors, too.
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes_);
  const uintptr_t first = (begin + page - 1) / page * page,
                  last = (begin + size_bytes()) / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

Tensor Tensor::clone() const {
  Tensor t(dtype_, shape_);
  if (size_bytes() > 0) std::memcpy(t.bytes_, bytes_, size_bytes());
  return t;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  if (shape.elements() != elements()) {
    throw ShapeError("a tensor of shape {} cannot be viewed as {}", shape_.str(), shape.str());
  }
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::cast(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor t(dtype, shape_);
  with_type(dtype_, [&](auto from) {
    with_type(dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      const auto* x = static_cast<const typename From::Bits*>(bytes_);
      auto* y = static_cast<typename To::Bits*>(t.bytes_);
      constexpr int64_t kGrain = 1 << 16;
      parallel_for(elements(), kGrain, [x, y](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) y[i] = To::store(From::load(x[i]));
      });
    });
  });
  return t;
}

}  // namespace graft
