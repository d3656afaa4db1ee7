// Leaves of a graph: what a run is given (input), what a store holds (param), and constants (full).
#include "autograd/builder.h"
#include "autograd/ops/families.h"

namespace graft::ops {
namespace {

std::vector<Type> infer_named(const InferCall& c) {
  c.expect_arity(0, 0);
  const auto& a = c.attr<NameAttrs>();
  return {{a.dtype, a.shape}};
}

std::vector<Type> infer_full(const InferCall& c) {
  c.expect_arity(0, 0);
  const auto& a = c.attr<FullAttrs>();
  return {{a.dtype, a.shape}};
}

constexpr OpDef kOps[] = {
    {.name = "input", .infer = infer_named, .flops = no_flops},
    {.name = "param", .infer = infer_named, .flops = no_flops},
    {.name = "full", .infer = infer_full, .flops = no_flops},
};

}  // namespace

Family leaf_ops() { return kOps; }

}  // namespace graft::ops
