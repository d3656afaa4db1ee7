// Intrinsic dimension (methods.md 5.1, 2012.13255): all chosen weights move inside one random
// subspace, theta_j = theta0_j + lambda_j F_j(v), F the Fastfood transform. DID: lambda_j = 1;
// SAID: one trained lambda per tensor, within the same budget of numbers.
#include "autograd/ops.h"
#include "core/error.h"
#include "core/random.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

void intrinsic(Rewrite& r, const Json& config) {
  const std::vector<std::string> params = select_params(r.base(), config);
  const bool said = config.at("said").get<bool>();
  const auto dimension = config.at("intrinsic_dim").get<int64_t>();
  const int64_t scales = said ? static_cast<int64_t>(params.size()) : 0;
  if (dimension <= scales) {
    throw UsageError("intrinsic_dim {} leaves nothing beside one scale for each of {} tensors",
                     dimension, params.size());
  }
  const int64_t k = dimension - scales;
  const auto seed = config.at("projection_seed").get<int64_t>();
  const Value v = r.param("intrinsic.theta", {k}, Init::zeros());
  for (const std::string& name : params) {
    const Shape shape = r.base().param(name).type.shape;
    r.reparametrize(name, [&](Builder& b, Value w) {
      Value delta =
          ops::fastfood(b, v, shape.elements(), seed, static_cast<int64_t>(hash_name(name) >> 1));
      if (said) delta = ops::mul(b, delta, r.param(name + ".intrinsic_lambda", {1}, Init::ones()));
      return ops::add(b, w, ops::reshape(b, delta, shape));
    });
  }
}

Json defaults() {
  Json d = target_defaults();
  d.update(Json{{"intrinsic_dim", 20000},
                {"said", true},
                {"include_embeddings", false},
                {"projection_seed", 0}});
  return d;
}

const Method kMethods[] = {{"intrinsic", "reparametrization", "freeze, reparametrize", "2012.13255",
                            "", 3e-2, defaults, intrinsic}};

}  // namespace

std::span<const Method> intrinsic_methods() { return kMethods; }

}  // namespace graft::peft
