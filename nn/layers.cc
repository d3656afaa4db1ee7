#include "nn/layers.h"

#include "autograd/ops.h"

namespace graft::nn {

Value weight(Builder& b, std::string_view name, Shape shape) {
  return b.param({.name = b.path(name), .type = {DType::f32, shape}});
}

Value linear(Builder& b, Value x, std::string_view name, int64_t out, bool bias) {
  const auto scope = b.scope(name);
  const Value w = weight(b, "weight", {out, b.shape(x)[-1]});
  return ops::linear(b, x, w, bias ? weight(b, "bias", {out}) : Value{});
}

Value conv1d(Builder& b, Value x, std::string_view name, int64_t out) {
  const auto scope = b.scope(name);
  const Value w = weight(b, "weight", {b.shape(x)[-1], out});
  return ops::linear(b, x, ops::transpose(b, w, {1, 0}), weight(b, "bias", {out}));
}

Value layer_norm(Builder& b, Value x, std::string_view name, double eps) {
  const auto scope = b.scope(name);
  const Shape size{b.shape(x)[-1]};
  return ops::layer_norm(b, x, weight(b, "weight", size), weight(b, "bias", size), eps);
}

Value embedding(Builder& b, Value ids, std::string_view name, int64_t rows, int64_t dim) {
  const auto scope = b.scope(name);
  return ops::embedding(b, ids, weight(b, "weight", {rows, dim}));
}

}  // namespace graft::nn
