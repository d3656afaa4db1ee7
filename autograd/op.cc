#include "autograd/op.h"

#include <map>

#include "autograd/ops/families.h"
#include "core/error.h"

namespace graft {
namespace {

struct Registry {
  std::map<std::string_view, const OpDef*> by_name;

  Registry() {
    for (auto family : ops::families()) {
      for (const OpDef& op : family) by_name[op.name] = &op;
    }
  }
};

const Registry& registry() {
  static const Registry r;
  return r;
}

std::string operands(const InferCall& call) {
  std::string text;
  for (const auto& t : call.inputs) text += (text.empty() ? "" : ", ") + (t ? t->str() : "-");
  return text;
}

}  // namespace

const Type& InferCall::in(size_t i) const {
  if (!has(i)) throw GraphError("{}: operand {} is missing; operands {}", op, i, operands(*this));
  return *inputs[i];
}

void InferCall::fail(const std::string& message) const { throw ShapeError(message); }

std::vector<Type> infer_types(const OpDef& op, const Attrs& attrs,
                              std::span<const std::optional<Type>> inputs) {
  const InferCall call{op.name, attrs, inputs};
  try {
    return op.infer(call);
  } catch (const ShapeError& e) {
    throw ShapeError("{}: {}; operands {}{}{}", op.name, e.what(), operands(call),
                     attrs.str().empty() ? "" : "; ", attrs.str());
  }
}

void InferCall::expect_arity(size_t least, size_t most) const {
  if (inputs.size() < least || inputs.size() > most) {
    throw GraphError("{}: takes {} to {} operands, got {}", op, least, most, inputs.size());
  }
}

void InferCall::expect_float(size_t i) const {
  // Kernels compute in f32; narrower floats are only stored and moved.
  if (dtype(i) != DType::f32) {
    throw DtypeError("{}: operand {} must be f32 (cast it first); operands {}", op, i,
                     operands(*this));
  }
}

void InferCall::expect_int(size_t i) const {
  if (dtype(i) != DType::i64 && dtype(i) != DType::i32) {
    throw DtypeError("{}: operand {} must be an integer type; operands {}", op, i, operands(*this));
  }
}

const OpDef& find_op(std::string_view name) {
  const auto it = registry().by_name.find(name);
  if (it == registry().by_name.end()) throw GraphError("there is no op '{}'", name);
  return *it->second;
}

Cost cost_of(const Graph& graph, const Node& node) {
  std::vector<Type> inputs;
  Cost cost;
  for (const Value v : node.inputs) {
    inputs.push_back(v.valid() ? graph.type(v) : Type{});
    if (v.valid()) cost.bytes += static_cast<double>(inputs.back().bytes());
  }
  for (const Type& t : node.outputs) {
    cost.bytes += static_cast<double>(t.bytes());
    cost.flops += static_cast<double>(t.shape.elements());
  }
  if (node.op->flops) cost.flops = node.op->flops(inputs, node.outputs, node.attrs);
  if (node.op->view_of >= 0) cost = {};
  return cost;
}

}  // namespace graft
