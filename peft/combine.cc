#include "peft/combine.h"

#include <cstring>

#include "autograd/ops.h"

namespace graft::peft {
namespace {

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.size_bytes() == b.size_bytes() &&
         (a.bytes() == b.bytes() || std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0);
}

}  // namespace

Combination combine(const Graph& base, const ParamStore& base_params,
                    std::span<const WeightedAdapter> adapters) {
  std::vector<Folded> alone;
  for (const WeightedAdapter& a : adapters) alone.push_back(fold_parameters(a.adapted, a.params));
  Rewrite rewrite(base, {});
  Combination result;
  for (const Param& p : base.params()) {
    if (!base_params.contains(p.name)) {
      for (size_t k = alone.size(); k-- > 0;) {
        if (alone[k].params.contains(p.name))
          result.params.set(p.name, alone[k].params.get(p.name));
      }
      continue;
    }
    const Tensor& own = base_params.get(p.name);
    result.params.set(p.name, own);
    std::vector<size_t> changing;
    for (size_t k = 0; k < alone.size(); ++k) {
      const bool has = alone[k].params.contains(p.name);
      if (has && !same_bytes(alone[k].params.get(p.name), own)) changing.push_back(k);
    }
    if (changing.empty() || !base.param_value(p.name).valid()) continue;
    rewrite.reparametrize(p.name, [&](Builder& b, Value w) {
      Value sum = w;
      for (size_t k : changing) {
        const std::string name = fmt::format("{}@{}", p.name, k);
        result.params.set(name, alone[k].params.get(p.name));
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
