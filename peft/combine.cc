#include "peft/combine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "autograd/ops.h"

namespace graft::peft {
namespace {

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.size_bytes() == b.size_bytes() &&
         (a.bytes() == b.bytes() || std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0);
}

bool same_values(const ParamStore& a, const ParamStore& b, const std::string& name) {
  return a.stored(name).bytes() == b.stored(name).bytes() || same_bytes(a.get(name), b.get(name));
}

}  // namespace

Combination combine(const Graph& base, const ParamStore& base_params,
                    std::span<const WeightedAdapter> adapters) {
  std::vector<Folded> alone;
  for (const WeightedAdapter& a : adapters) alone.push_back(fold_parameters(a.adapted, a.params));
  Rewrite rewrite(base, {});
  Combination result;
  // A head of several layers comes as a whole: one for other labels is no change of the base's.
  const bool other_head = std::ranges::any_of(base.params(), [&](const Param& p) {
    return is_task_head(p.name) && !base_params.contains(p.name);
  });
  for (const Param& p : base.params()) {
    if (!base_params.contains(p.name) || (other_head && is_task_head(p.name))) {
      for (size_t k = alone.size(); k-- > 0;) {
        if (alone[k].params.contains(p.name)) result.params.share(p.name, alone[k].params);
      }
      continue;
    }
    result.params.share(p.name, base_params);
    std::vector<size_t> changing;
    for (size_t k = 0; k < alone.size(); ++k) {
      const ParamStore& merged = alone[k].params;
      if (merged.contains(p.name) && !same_values(merged, base_params, p.name))
        changing.push_back(k);
    }
    if (changing.empty() || !base.param_value(p.name).valid()) continue;
    rewrite.reparametrize(p.name, [&](Builder& b, Value w) {
      Value sum = w;
      for (size_t k : changing) {
        const std::string name = fmt::format("{}@{}", p.name, k);
        result.params.set(name, std::as_const(alone[k].params).get(p.name));
        const Value merged = rewrite.param(name, p.type.shape, Init::given(), false);
        sum = ops::add(b, sum, ops::scale(b, ops::sub(b, merged, w), adapters[k].weight));
      }
      return sum;
    });
  }
  result.graph = rewrite.builder().finish();
  return result;
}

}  // namespace graft::peft
