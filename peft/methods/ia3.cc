// (IA)^3 (methods.md 3.1, 2205.05638): keys, values and inner activations of the MLP times a
// learned vector. Written as diagonal factors on the weights, W := diag(l) W with b := l b, and W
// := W diag(l) for targets scaled on their input side, so that merging is folding.
#include "autograd/ops.h"
#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

bool feed_forward(const Json& names, const std::string& module) {
  if (names.is_string()) return regex_matches(module, names.get<std::string>());
  for (const Json& n : names) {
    if (module.ends_with(n.get<std::string>()))
      return true;  // without a dot boundary, as the reference does
  }
  return false;
}

void ia3(Rewrite& r, const Json& config) {
  Json names = config.at("feedforward_modules");
  // Without names: the second product of the MLP.
  if (names.is_null()) names = modules_of_role(r.base(), Role::mlp_block_output);
  for (const Module& m :
       r.targets(config, {Role::attention_key, Role::attention_value, Role::mlp_block_output})) {
    if (m.kind != Module::Kind::linear) throw UsageError("'{}' is not a linear layer", m.name);
    const bool input_side = feed_forward(names, m.name);
    const int64_t out = m.shape[0], in = m.shape[1];
    const Value l =
        r.param(m.name + ".ia3_l", input_side ? Shape{1, in} : Shape{out, 1}, Init::ones());
    r.reparametrize(m, [&](Builder& b, Value weight) { return ops::mul(b, weight, l); });
    if (!input_side && !m.bias.empty()) {
      r.reparametrize(m.bias, [&](Builder& b, Value bias) {
        return ops::mul(b, bias, ops::reshape(b, l, {out}));
      });
    }
  }
}

Json defaults() {
  Json d = target_defaults();
  d["feedforward_modules"] = nullptr;
  return d;
}

const Method kMethods[] = {
    {"ia3", "additive", "freeze, reparametrize", "2205.05638", "IA3", 1e-2, defaults, ia3}};

}  // namespace

std::span<const Method> ia3_methods() { return kMethods; }

}  // namespace graft::peft
