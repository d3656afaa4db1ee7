// Everything true of one op: its shapes, its gradient as graph, its cost, and what its output may
// share memory with. Kernels are not named here; they are found by the op's name
// (kernels/kernel.h).
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "autograd/graph.h"

namespace graft {

class Builder;

// Operand types of a node under construction; an absent optional input has no type.
struct InferCall {
  std::string_view op;
  const Attrs& attrs;
  std::span<const std::optional<Type>> inputs;

  bool has(size_t i) const { return i < inputs.size() && inputs[i].has_value(); }
  const Type& in(size_t i) const;  // throws GraphError when it is absent
  const Shape& shape(size_t i) const { return in(i).shape; }
  DType dtype(size_t i) const { return in(i).dtype; }
  template <typename T>
  const T& attr() const {
    return attrs.as<T>();
  }
  // ShapeError with the message; infer_types() says of which op and operands.
  [[noreturn]] void fail(const std::string& message) const;
  void expect(bool condition, const std::string& message) const {
    if (!condition) fail(message);
  }
  void expect_arity(size_t least, size_t most) const;
  void expect_float(size_t i) const;  // DtypeError unless f32: what kernels compute in
  void expect_int(size_t i) const;    // DtypeError unless i32 or i64
};

// Builds the gradient of a node with respect to the inputs that need one, as nodes of `b`.
struct VjpCall {
  Builder& b;
  int32_t id;                    // of the node
  const Node node;               // a copy: building may move the builder's nodes
  std::span<const Value> grads;  // cotangent of each output; absent where nothing depends on it
  std::vector<bool> needs;       // which inputs want a gradient: build nothing for the others

  Value in(size_t i) const { return i < node.inputs.size() ? node.inputs[i] : Value{}; }
  Value out(int32_t i = 0) const { return {id, i}; }
  Value grad(size_t i = 0) const { return grads[i]; }
  bool need(size_t i) const { return i < needs.size() && needs[i]; }
  template <typename T>
  const T& attr() const {
    return node.attrs.as<T>();
  }
};

struct OpDef {
  std::string_view name;
  std::vector<Type> (*infer)(const InferCall&) = nullptr;
  // One value per input, absent where not needed (the list may be shorter). The gradient of a
  // broadcast input comes in the output's shape: it is reduced where cotangents accumulate. Null:
  // no gradient flows through.
  std::vector<Value> (*vjp)(VjpCall&) = nullptr;
  // Floating-point operations; null: one per output element. Bytes are always counted from the
  // operands.
  double (*flops)(std::span<const Type> inputs, std::span<const Type> outputs,
                  const Attrs& attrs) = nullptr;
  int view_of = -1;       // output 0 is the bytes of this input
  uint32_t in_place = 0;  // bit i: output 0 may be written over input i when that input dies here
  bool may_overwrite(size_t input) const { return input < 32 && (in_place >> input & 1) != 0; }
  // Without inputs but costly: computed once and kept, like what depends on frozen parameters
  // alone.
  bool once = false;
  // Products and attention: what is worth keeping rather than computing again.
  bool costly = false;
  bool draws = false;  // reads random numbers: two such nodes are two draws, however alike
  // Output k is input updates[k] changed in place (optimizer updates); -1: it is not.
  std::array<int8_t, 5> updates = {-1, -1, -1, -1, -1};
};

// The op of that name; throws GraphError when there is none.
const OpDef& find_op(std::string_view name);
// The output types of a node. A ShapeError says "OP: message; operands f32[2, 3], ...; attributes".
std::vector<Type> infer_types(const OpDef& op, const Attrs& attrs,
                              std::span<const std::optional<Type>> inputs);

struct Cost {
  double flops = 0;
  double bytes = 0;  // read or written at least once
};
Cost cost_of(const Graph& graph, const Node& node);

}  // namespace graft
