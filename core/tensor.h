// Bytes with a type and a shape. A Tensor knows no gradients and no graph; it is contiguous and
// row-major.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

namespace graft {

enum class Device : uint8_t { cpu, cuda };

// What stands behind bytes: memory, or a file that can be read again.
enum class Backing : uint8_t { memory, file };

// A cheap handle: copies share the bytes. The owner keeps whatever holds them alive (heap, file
// mapping, arena).
class Tensor {
 public:
  Tensor() = default;
  // Allocates zeroed memory, aligned for the widest vector.
  Tensor(DType dtype, const Shape& shape);
  // Wraps bytes that `owner` keeps alive; they must be writable if anyone writes through data<T>().
  Tensor(DType dtype, const Shape& shape, void* bytes, std::shared_ptr<const void> owner,
         Backing backing = Backing::memory);

  template <typename T>
  static Tensor from(const Shape& shape, std::span<const T> values) {
    Tensor t(dtype_of<T>, shape);
    if (static_cast<int64_t>(values.size()) != shape.elements()) {
      throw ShapeError("{} values do not fill a tensor of shape {}", values.size(), shape.str());
    }
    if (!values.empty()) std::memcpy(t.bytes_, values.data(), t.size_bytes());
    return t;
  }
  template <typename T>
  static Tensor from(const Shape& shape, const std::vector<T>& values) {
    return from(shape, std::span<const T>(values));
  }
  static Tensor scalar(float value) { return from<float>({}, std::span<const float>(&value, 1)); }

  bool empty() const {
    return bytes_ == nullptr;
  }  // default-constructed, not merely without elements
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t elements() const { return shape_.elements(); }
  size_t size_bytes() const { return static_cast<size_t>(elements()) * size_of(dtype_); }
  Device device() const { return Device::cpu; }
  bool shared() const { return owner_.use_count() > 1; }  // another handle keeps the bytes, too
  bool mapped() const { return backing_ == Backing::file; }
  // Gives the memory behind a mapped file back to the system; who looks again reads the file again.
  // What was written into the mapping since is lost. Other memory stays as it is.
  void release_pages() const;

  void* bytes() { return bytes_; }
  const void* bytes() const { return bytes_; }
  // Typed access; throws DtypeError on the wrong type.
  template <typename T>
  T* data() {
    check(dtype_of<T>);
    return static_cast<T*>(bytes_);
  }
  template <typename T>
  const T* data() const {
    check(dtype_of<T>);
    return static_cast<const T*>(bytes_);
  }
  template <typename T>
  std::span<const T> span() const {
    return {data<T>(), static_cast<size_t>(elements())};
  }
  template <typename T>
  std::span<T> span() {
    return {data<T>(), static_cast<size_t>(elements())};
  }

  Tensor clone() const;                       // own copy of the bytes
  Tensor reshaped(const Shape& shape) const;  // same bytes, same number of elements
  Tensor cast(DType dtype) const;  // converts; the same handle when the type fits already

 private:
  void check(DType wanted) const {
    if (wanted != dtype_) {
      throw DtypeError("a tensor of {} was read as {}", name_of(dtype_), name_of(wanted));
    }
  }
  DType dtype_ = DType::f32;
  Shape shape_;
  void* bytes_ = nullptr;
  std::shared_ptr<const void> owner_;
  Backing backing_ = Backing::memory;
};

// Zeroed memory at a 64-byte boundary (2 MiB and huge pages for large blocks); throws Error when
// there is none.
std::shared_ptr<void> allocate_aligned(size_t bytes);

}  // namespace graft
