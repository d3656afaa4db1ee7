#include "nn/optimizer.h"

#include <set>

#include "autograd/ops.h"
#include "core/error.h"
#include "kernels/dynamic_map.h"

namespace graft {
namespace {

struct Rule {
  const char* op;
  std::vector<std::pair<const char*, Type>> states;
  Attrs attrs;
};

// Adafactor keeps means over the last two axes; a vector keeps all its squares in `column`.
std::pair<Shape, Shape> factor_shapes(const Shape& s) {
  if (s.rank() < 2) return {Shape{0}, s};
  return {s.without(-1), s.without(-2)};
}

// Below so many elements moments stay floats, as in bitsandbytes.
constexpr int64_t kLeast8bit = 4096;

bool has_8bit_states(const OptimizerConfig& c) {
  return c.kind == "adam_8bit" || c.kind == "adamw_8bit";
}

// What is looked up by ids. Its moments stay floats, as transformers has it: of such gradients most
// rows are zero in most steps.
std::set<Value> embedding_tables(const Builder& b) {
  std::set<Value> tables;
  for (const Node& n : b.graph().nodes()) {
    if (n.op->name == "embedding") tables.insert(n.inputs[1]);
  }
  return tables;
}

// Codes like the parameter, and one number per block of them.
Rule adam_8bit(const AdamAttrs& a, const Shape& shape) {
  const Type codes{DType::u8, shape}, absmax{DType::f32, {dynamic_map::blocks(shape.elements())}};
  return {"adam_8bit_update",
          {{"exp_avg", codes},
           {"exp_avg_absmax", absmax},
           {"exp_avg_sq", codes},
           {"exp_avg_sq_absmax", absmax}},
          Attrs::of(a)};
}

Rule rule_for(const OptimizerConfig& c, double weight_decay, const Type& like, bool in_8_bits) {
  const Shape& shape = like.shape;
  if (c.kind == "sgd") {
    return {"sgd_update",
            {{"momentum_buffer", like}},
            Attrs::of(SgdAttrs{c.momentum, c.dampening, weight_decay, c.nesterov})};
  }
  if (c.kind == "adam" || c.kind == "adamw" || has_8bit_states(c)) {
    const AdamAttrs a{
        c.beta1,  c.beta2, c.eps, weight_decay, c.kind == "adamw" || c.kind == "adamw_8bit",
        c.amsgrad};
    if (c.amsgrad)
      return {"amsgrad_update",
              {{"exp_avg", like}, {"exp_avg_sq", like}, {"max_exp_avg_sq", like}},
              Attrs::of(a)};
    if (in_8_bits) return adam_8bit(a, shape);
    return {"adam_update", {{"exp_avg", like}, {"exp_avg_sq", like}}, Attrs::of(a)};
  }
  if (c.kind == "lion")
    return {
        "lion_update", {{"exp_avg", like}}, Attrs::of(LionAttrs{c.beta1, c.beta2, weight_decay})};
  if (c.kind == "rmsprop") {
    return {"rmsprop_update",
            {{"square_avg", like}},
            Attrs::of(RmspropAttrs{c.alpha, c.eps, weight_decay})};
  }
  if (c.kind == "adagrad")
    return {"adagrad_update", {{"sum", like}}, Attrs::of(AdagradAttrs{0, c.eps, weight_decay})};
  if (c.kind == "adafactor" || c.kind == "torch_adafactor") {
    AdafactorAttrs a = c.adafactor;
    a.torch_rule = c.kind == "torch_adafactor";
    a.weight_decay = weight_decay;
    const auto [row, column] = factor_shapes(shape);
    return {"adafactor_update",
            {{"row", {like.dtype, row}},
             {"column", {like.dtype, column}},
             {"exp_avg", {like.dtype, a.beta1 >= 0 ? shape : Shape{0}}}},
            Attrs::of(a)};
  }
  throw UsageError(
      "there is no optimizer '{}'; known: sgd, adam, adamw, adam_8bit, adamw_8bit, lion, rmsprop, "
      "adagrad, adafactor, "
      "torch_adafactor",
      c.kind);
}

}  // namespace

std::map<std::string, Value> add_optimizer(Builder& b,
                                           const std::map<std::string, Value>& gradients,
                                           const OptimizerConfig& config,
                                           const std::vector<ParamGroup>& groups,
                                           double max_grad_norm) {
  const Phase phase = std::exchange(b.phase, Phase::update);
  auto state = [&](const std::string& name, const Type& type) {
    return b.param({.name = name, .type = type, .kind = Param::Kind::state, .init = Init::zeros()});
  };
  const Value step = state("optimizer.step", {DType::i64, {}});
  std::map<std::string, Value> updates;
  Value scale = b.constant(1);
  if (max_grad_norm > 0) {
    std::vector<Value> all;
    for (const auto& [name, g] : gradients) all.push_back(g);
    const Value norm = ops::l2_norm(b, all);
    b.output("grad_norm", norm);
    scale = b.node("clip_coefficient", {norm}, Attrs::of(ScalarAttrs{max_grad_norm}));
  }
  const std::set<Value> tables = has_8bit_states(config) ? embedding_tables(b) : std::set<Value>();
  for (size_t i = 0; i < groups.size(); ++i) {
    const ParamGroup& group = groups[i];
    const Value lr = b.node("lr_schedule", {step}, Attrs::of(group.schedule));
    b.output(fmt::format("lr/{}", i), lr);
    for (const std::string& name : group.params) {
      const auto g = gradients.find(name);
      if (g == gradients.end()) continue;
      const Type type = b.graph().param(name).type;
      const Value param = b.param_value(name);
      const bool in_8_bits =
          has_8bit_states(config) && type.shape.elements() >= kLeast8bit && !tables.contains(param);
      const Rule rule = rule_for(config, group.weight_decay, type, in_8_bits);
      std::vector<Value> in{param, g->second};
      for (const auto& [key, state_type] : rule.states)
        in.push_back(state(fmt::format("optimizer.{}.{}", name, key), state_type));
      in.insert(in.end(), {lr, step, scale});
      const auto scope = b.scope(name);
      const Value updated = b.node(rule.op, in, rule.attrs);
      b.assign(name, updated);
      updates[name] = updated;
      for (size_t k = 0; k < rule.states.size(); ++k) {
        b.assign(fmt::format("optimizer.{}.{}", name, rule.states[k].first),
                 {updated.node, static_cast<int32_t>(k) + 1});
      }
    }
  }
  b.assign("optimizer.step", b.node("increment", {step}));
  b.phase = phase;
  return updates;
}

}  // namespace graft
