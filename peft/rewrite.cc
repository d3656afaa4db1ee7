#include "peft/rewrite.h"

#include <utility>

#include "autograd/op.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "core/random.h"

namespace graft::peft {

void Rewrite::freeze_all() {
  for (const Param& p : base_.params()) b_.param_ref(p.name).trainable = false;
}

void Rewrite::unfreeze(const std::function<bool(const Param&)>& select) {
  for (const Param& p : base_.params()) {
    if (p.kind == Param::Kind::weight && p.adapter.empty() && is_float(p.type.dtype) && select(p))
      b_.param_ref(p.name).trainable = true;
  }
}

Value Rewrite::current(const std::string& param) const {
  for (const Mark& m : b_.graph().marks(Role::reparametrized)) {
    if (m.scope == param) return m.value;
  }
  return b_.graph().param_value(param);
}

Value Rewrite::reparametrize(const std::string& param,
                             const std::function<Value(Builder&, Value)>& f) {
  const Value old = current(param);
  const std::string path = b_.path();
  b_.set_path(param.substr(0, param.rfind('.')));
  const Value to = b_.insert_after(old, f);
  b_.set_path(path);
  b_.mark_reparametrized(param, to);
  return to;
}

namespace {

Value transposed(Builder& b, Value v) {
  const Node& n = b.graph().node(v.node);
  if (n.op->name == "transpose" && b.shape(v).rank() == 2) return n.inputs[0];
  return ops::transpose(b, v, {1, 0});
}

}  // namespace

Value Rewrite::current(const Module& module) {
  const Value w = current(module.weight);
  return module.transposed ? transposed(b_, w) : w;
}

void Rewrite::reparametrize(const Module& module, const std::function<Value(Builder&, Value)>& f) {
  if (!module.tied) {
    reparametrize(module.weight, [&](Builder& b, Value w) {
      return module.transposed ? transposed(b, f(b, transposed(b, w))) : f(b, w);
    });
    return;
  }
  const Value old = current(module.weight);
  const std::string path = b_.path();
  b_.set_path(module.name);
  const Value to = f(b_, old);
  b_.set_path(path);
  for (const int32_t reader : module.readers) b_.set_input({reader, 1}, to);
  b_.mark_reparametrized(module.weight, to);
}

void Rewrite::untie(const Module& module) {
  const std::string own = module.name + ".weight";
  if (module.weight == own) return;
  const Param tied = base_.param(module.weight);
  const Value leaf = b_.param({.name = own, .type = tied.type, .trainable = true});
  for (const int32_t reader : module.readers) b_.set_input({reader, 1}, leaf);
  initialize([own, from = module.weight](ParamStore& store) {
    if (!store.contains(own)) store.set(own, std::as_const(store).get(from).clone());
  });
}

void Rewrite::add_beside(const Module& module, const std::function<Value(Builder&, Value x)>& f) {
  const std::string path = b_.path();
  for (const int32_t reader : module.readers) {
    const Value x = b_.graph().node(reader).inputs[0];
    b_.set_path(b_.graph().node(reader).scope);
    b_.insert_after({reader, 0}, [&](Builder& b, Value y) { return ops::add(b, y, f(b, x)); });
  }
  b_.set_path(path);
}

Value Rewrite::dropout(Value x, double p, std::string_view site) {
  if (p < 0 || p >= 1) throw UsageError("dropout should be at least 0 and below 1 but is {}", p);
  if (!training() || p == 0) return x;
  return ops::dropout(b_, x, rng(), p, stream_of_site(site));
}

Value Rewrite::param(const std::string& name, Shape shape, const Init& init, bool trainable) {
  return b_.param({.name = name,
                   .type = {DType::f32, shape},
                   .trainable = trainable,
                   .init = init,
                   .adapter = options_.adapter});
}

Value Rewrite::buffer(const std::string& name, DType dtype, Shape shape) {
  return b_.param({.name = name, .type = {dtype, shape}, .adapter = options_.adapter});
}

}  // namespace graft::peft
