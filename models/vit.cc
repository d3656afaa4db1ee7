// Vision Transformer (2010.11929): squares of an image as tokens of a pre-norm encoder.
#include <cmath>

#include "models/families.h"
#include "nn/layers.h"

namespace graft::vit {
namespace {

void read(ConfigReader& r, ModelConfig& c) {
  c.norm_eps = r.real("layer_norm_eps", 0, 1, 1e-12);
  c.activation = r.text("hidden_act", "gelu");
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_size));
  c.channels = r.size("num_channels", 3);
  c.image_size = r.size("image_size", 224);
  c.patch_size = r.size("patch_size", 16);
  if (c.image_size % c.patch_size != 0)
    r.fail("patch_size", fmt::format("a divisor of image_size {}", c.image_size));
  r.flag("qkv_bias", true);
  r.only("pooler_act", "tanh");
  r.only("pooler_output_size", c.hidden);
  c.dropout.attention = r.rate("attention_probs_dropout_prob", 0);
  c.dropout.hidden = c.dropout.embedding = r.rate("hidden_dropout_prob", 0);
  r.ignore({"encoder_stride"});
}

// [B, channels, S, S] -> [B, (S / P)^2, C]: a convolution whose windows do not overlap is a linear
// layer on them.
Value patches(ModelBuilder& m) {
  Builder& b = m.b;
  const ModelConfig& c = m.c;
  const int64_t P = c.patch_size, n = c.image_size / P, inside = c.channels * P * P;
  Value x =
      b.input("pixel_values", DType::f32, {m.o.batch, c.channels, c.image_size, c.image_size});
  x = ops::reshape(b, x, {m.o.batch, c.channels, n, P, n, P});
  x = ops::transpose(b, x, {0, 2, 4, 1, 3, 5});
  x = ops::reshape(b, x, {m.o.batch, n * n, inside});
  const auto scope = b.scope("patch_embeddings.projection");
  const Value kernel = nn::weight(b, "weight", {c.hidden, c.channels, P, P});
  return ops::linear(b, x, ops::reshape(b, kernel, {c.hidden, inside}),
                     nn::weight(b, "bias", {c.hidden}));
}

Value embeddings(ModelBuilder& m) {
  Builder& b = m.b;
  const auto scope = b.scope("embeddings");
  Value x = patches(m);
  const int64_t C = m.c.hidden, tokens = b.shape(x)[1] + 1;
  const Value first = ops::expand(b, nn::weight(b, "cls_token", {1, 1, C}), {m.o.batch, 1, C});
  x = ops::concat(b, {first, x}, 1);
  x = ops::add(b, x, nn::weight(b, "position_embeddings", {1, tokens, C}));
  x = m.dropout(x, m.c.dropout.embedding, "position_embeddings");
  b.mark(Role::embedding_output, x);
  return x;
}

Value projection(ModelBuilder& m, Value x, const char* name, Role role) {
  const Value y = nn::linear(m.b, x, name, m.c.hidden, m.c.flag("qkv_bias", true));
  m.b.mark(role, y);
  return m.split_heads(y, m.c.heads, m.c.head_size);
}

Value attention(ModelBuilder& m, Value x) {
  const auto scope = m.b.scope("attention");
  AttentionAttrs attrs;
  attrs.scale = m.c.attention_scale;
  Value context;
  {
    const auto inner = m.b.scope("attention");
    const Value q = projection(m, x, "query", Role::attention_query);
    const Value k = projection(m, x, "key", Role::attention_key);
    const Value v = projection(m, x, "value", Role::attention_value);
    context = m.join_heads(m.attention(q, k, v, {}, {}, attrs));
  }
  return m.dropout(nn::linear(m.b, context, "output.dense", m.c.hidden), m.c.dropout.hidden,
                   "output.dense");
}

// x1 = x + Attn(LN(x)); y = x1 + FFN(LN(x1))
Value block(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  b.mark(Role::block_input, x);
  const Value attended = attention(m, nn::layer_norm(b, x, "layernorm_before", m.c.norm_eps));
  b.mark(Role::attention_block_output, attended);
  const Value x1 = ops::add(b, x, attended);
  b.mark(Role::attention_output, x1);
  const Value up = nn::linear(b, nn::layer_norm(b, x1, "layernorm_after", m.c.norm_eps),
                              "intermediate.dense", m.c.intermediate);
  b.mark(Role::mlp_up, up);
  const Value activation = ops::activation(b, up, m.c.activation);
  b.mark(Role::mlp_activation, activation);
  const Value down = m.dropout(nn::linear(b, activation, "output.dense", m.c.hidden),
                               m.c.dropout.hidden, "output.dense");
  b.mark(Role::mlp_block_output, down);
  const Value y = ops::add(b, x1, down);
  b.mark(Role::block_output, y);
  return y;
}

Value body(ModelBuilder& m) {
  Value x = embeddings(m);
  x = m.blocks(x, "encoder.layer", [&](Value v) { return block(m, v); });
  m.hidden(m.c.layers, x);
  return nn::layer_norm(m.b, x, "layernorm", m.c.norm_eps);
}

Value pooler(ModelBuilder& m, Value x) {
  return ops::tanh(m.b, nn::linear(m.b, m.first_token(x), "pooler.dense", m.c.hidden));
}

Value classify(ModelBuilder& m, Value x) {
  return m.fresh_linear(m.first_token(x), "classifier", m.labels());
}

}  // namespace

const Family kVit = {
    "vit",  Family::Kind::image, "vit", Family::Positions::all, read, body, pooler, classify,
    nullptr};

}  // namespace graft::vit
