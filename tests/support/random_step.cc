#include "tests/support/random_step.h"

#include <map>

#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "nn/optimizer.h"

namespace graft::testing {
namespace {

// A state that is replaced in part, in one piece or two, and read before and after: in its place
// where nobody reads what was there.
void add_cache(Builder& b, Dice& dice) {
  const Value cache = b.param({.name = "cache",
                               .type = {DType::f32, {1, 4, 2}},
                               .kind = Param::Kind::state,
                               .init = Init::normal(1)});
  const auto row = [&](double value, int64_t at) {
    return std::pair{b.constant(value, {1, 1, 2}), b.constant(double(at), {}, DType::i64)};
  };
  if (dice.one_in(2)) b.output("cache/before", ops::scale(b, cache, 2));
  const auto [first, one] = row(3, 1);
  Value next = ops::write_rows(b, cache, first, one);
  if (dice.one_in(2)) {
    const auto [second, three] = row(4, 3);
    next = ops::write_rows(b, next, second, three);
  }
  if (dice.one_in(3)) next = ops::tanh(b, next);
  b.output("cache/after", ops::scale(b, next, 3));
  if (dice.one_in(3)) b.output("cache/old", ops::scale(b, cache, 4));
  b.assign("cache", next);
}

}  // namespace

Graph random_step(const Graph& model, uint64_t seed) {
  Dice dice(seed ^ 0x5eed);
  Builder b;
  std::map<std::string, Value> gradients;
  Value total;
  const int64_t parts = dice.between(1, 2);
  for (int64_t k = 0; k < parts; ++k) {
    b.part = static_cast<int32_t>(k);
    b.phase = Phase::forward;
    const auto here = b.append(model, parts > 1 ? fmt::format("/{}", k) : "");
    Value loss;
    for (const auto& [name, v] : model.outputs()) {
      const Value y = ops::mean(b, ops::pow_scalar(b, ops::tanh(b, here(v)), 2));
      loss = loss.valid() ? ops::add(b, loss, y) : y;
    }
    total = total.valid() ? ops::add(b, total, loss) : loss;
    const auto own = gradient(b, loss);
    b.phase = Phase::backward;
    for (const auto& [name, g] : own) {
      const auto [at, first] = gradients.try_emplace(name, g);
      if (!first) at->second = ops::add(b, at->second, g);
    }
  }
  b.part = 0;
  b.phase = Phase::forward;
  b.output("loss", total);
  for (const auto& [name, g] : gradients) {
    if (dice.one_in(2)) b.output("grad/" + name, g);
  }
  if (dice.one_in(2)) add_cache(b, dice);
  if (gradients.empty()) return b.finish();
  ParamGroup group{.schedule = {.kind = "linear", .lr = 0.1, .total = 10}, .weight_decay = 0.01};
  for (const auto& [name, g] : gradients) group.params.push_back(name);
  const std::string kind = dice.one_in(2) ? "adamw" : "sgd";
  const auto updated = add_optimizer(b, gradients, {.kind = kind, .momentum = 0.5}, {group},
                                     dice.one_in(2) ? 0.5 : 0);
  // A reader of an old value behind its update: the update in place has to wait for it.
  b.phase = Phase::update;
  for (const auto& [name, v] : updated) {
    if (dice.one_in(2)) b.output("new/" + name, ops::scale(b, v, 2));
    if (dice.one_in(2)) b.output("old/" + name, ops::scale(b, b.param_value(name), 2));
  }
  return b.finish();
}

}  // namespace graft::testing
