#include "peft/rewrite.h"

#include "core/error.h"

namespace graft::peft {

void Rewrite::freeze_all() {
  for (const Param& p : base_.params()) b_.param_ref(p.name).trainable = false;
}

void Rewrite::unfreeze(const std::function<bool(const Param&)>& select) {
  for (const Param& p : base_.params()) {
    if (p.kind == Param::Kind::weight && p.adapter.empty() && is_float(p.type.dtype) && select(p)) b_.param_ref(p.name).trainable = true;
  }
}

Value Rewrite::reparametrize(const std::string& param, const std::function<Value(Builder&, Value)>& f) {
  Value old = b_.param_value(param);
  for (const Mark& m : b_.graph().marks(Role::reparametrized)) {
    if (m.scope == param) old = m.value;
  }
  const std::string path = b_.path();
  b_.set_path(param.substr(0, param.rfind('.')));
  const Value to = b_.insert_after(old, f);
  b_.set_path(path);
  b_.mark_reparametrized(param, to);
  return to;
}

Value Rewrite::param(const std::string& name, Shape shape, const Init& init, bool trainable) {
  return b_.param({.name = name, .type = {DType::f32, std::move(shape)}, .trainable = trainable, .init = init, .adapter = adapter_});
}

Value Rewrite::buffer(const std::string& name, DType dtype, Shape shape) {
  return b_.param({.name = name, .type = {dtype, std::move(shape)}, .adapter = adapter_});
}

}  // namespace graft::peft
