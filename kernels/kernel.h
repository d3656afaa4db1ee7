// What a kernel is: a function on views of memory, found by the name of its op and the backend that
// runs it. Kernels never allocate, check shapes, log or throw: the graph was checked when it was
// built.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "core/dtype.h"
#include "core/shape.h"
#include "kernels/attrs.h"

namespace graft {

// `ref` is the definition of every op: plain loops in double. It sees every floating-point view as
// f64.
enum class Backend : uint8_t { ref, cpu };
std::string_view name_of(Backend backend);

// A contiguous operand. An optional input that the node does not have is a view with present =
// false.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  bool present = true;

  template <typename T>
  T* as() const {
    GRAFT_DCHECK(dtype == dtype_of<T>);
    return static_cast<T*>(data);
  }
  int64_t elements() const { return shape.elements(); }
};

struct KernelCall {
  std::span<const View> inputs;
  std::span<const View> outputs;
  const Attrs* attrs = nullptr;
  // As many bytes as `workspace` of the entry asked for, 64-byte aligned. A plan may have been made
  // for fewer threads than there are now: a kernel uses as many as the bytes serve.
  void* workspace = nullptr;
  size_t workspace_bytes = 0;

  const View& in(size_t i) const { return inputs[i]; }
  const View& out(size_t i = 0) const { return outputs[i]; }
  bool has(size_t i) const { return i < inputs.size() && inputs[i].present; }
  template <typename T>
  const T& attr() const {
    return attrs->as<T>();
  }
};

struct KernelEntry {
  std::string_view op;
  void (*run)(const KernelCall&);
  // Bytes of scratch memory; sees shapes and types only (the views have no data). Null: none.
  size_t (*workspace)(const KernelCall&) = nullptr;
};

// The kernel of an op, or null. The tables are made of one list per family (kernels/ref/,
// kernels/cpu/).
const KernelEntry* find_kernel(Backend backend, std::string_view op);

}  // namespace graft
