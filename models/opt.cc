// OPT (2205.01068): a decoder with learned positions; norms before or after each half of a block,
// and a token table that may be narrower than the model.
#include <cmath>

#include "core/error.h"
#include "models/families.h"
#include "nn/layers.h"

namespace graft::opt {
namespace {

struct Traits {
  bool norm_before, bias, norm_weights, final_norm;
  int64_t table_width;
};

Traits traits_of(const ModelConfig& c) {
  Traits t = {};
  t.norm_before = c.flag("do_layer_norm_before", true);
  t.bias = c.flag("enable_bias", true);
  t.norm_weights = c.flag("layer_norm_elementwise_affine", true);
  t.final_norm = t.norm_before && !c.flag("_remove_final_layer_norm", false);
  t.table_width = json_field<int64_t>(c.raw, "word_embed_proj_dim", c.model_type, c.hidden);
  return t;
}

void read(ConfigReader& r, ModelConfig& c) {
  c.norm_eps = 1e-5;
  c.max_positions = r.size("max_position_embeddings", 2048);
  c.first_position = 2;  // two rows in front of the table
  c.tied = r.flag("tie_word_embeddings", true);
  c.activation = r.text("activation_function", "relu");
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_size));
  if (c.pad_id < 0) c.pad_id = 1;
  for (const char* key : {"do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine",
                          "_remove_final_layer_norm"}) {
    r.flag(key, false);
  }
  r.size("word_embed_proj_dim", c.hidden);
  c.dropout.attention = r.rate("attention_dropout", 0);
  c.dropout.hidden = r.rate("dropout", 0.1);
  r.rate("layerdrop", 0);
  r.ignore({"activation_dropout", "init_std"});
}

Value norm(ModelBuilder& m, Value x, std::string_view name, const Traits& t) {
  return t.norm_weights ? nn::layer_norm(m.b, x, name, m.c.norm_eps)
                        : ops::layer_norm(m.b, x, {}, {}, m.c.norm_eps);
}

Value attention(ModelBuilder& m, Value x, const Traits& t) {
  Builder& b = m.b;
  const auto scope = b.scope("self_attn");
  auto heads = [&](const char* name, Role role) {
    const Value y = nn::linear(b, x, name, m.c.hidden, t.bias);
    b.mark(role, y);
    return m.split_heads(y, m.c.heads, m.c.head_size);
  };
  const Value q = heads("q_proj", Role::attention_query);
  const Value k = heads("k_proj", Role::attention_key);
  const Value v = heads("v_proj", Role::attention_value);
  const Value context = m.join_heads(m.causal_attention(q, k, v));
  return m.dropout(nn::linear(b, context, "out_proj", m.c.hidden, t.bias), m.c.dropout.hidden,
                   "out_proj");
}

Value mlp(ModelBuilder& m, Value x, const Traits& t) {
  Builder& b = m.b;
  const Value up = nn::linear(b, x, "fc1", m.c.intermediate, t.bias);
  b.mark(Role::mlp_up, up);
  const Value activation = ops::activation(b, up, m.c.activation);
  b.mark(Role::mlp_activation, activation);
  return m.dropout(nn::linear(b, activation, "fc2", m.c.hidden, t.bias), m.c.dropout.hidden, "fc2");
}

// Before: x1 = x + Attn(LN(x)), y = x1 + FFN(LN(x1)). After: x1 = LN(x + Attn(x)),
// y = LN(x1 + FFN(x1)).
Value block(ModelBuilder& m, Value x, const Traits& t) {
  Builder& b = m.b;
  auto before = [&](Value v, const char* name) { return t.norm_before ? norm(m, v, name, t) : v; };
  auto after = [&](Value v, const char* name) { return t.norm_before ? v : norm(m, v, name, t); };
  b.mark(Role::block_input, x);
  const Value attended = attention(m, before(x, "self_attn_layer_norm"), t);
  b.mark(Role::attention_block_output, attended);
  const Value x1 = after(ops::add(b, x, attended), "self_attn_layer_norm");
  b.mark(Role::attention_output, x1);
  const Value added = mlp(m, before(x1, "final_layer_norm"), t);
  b.mark(Role::mlp_block_output, added);
  const Value y = after(ops::add(b, x1, added), "final_layer_norm");
  b.mark(Role::block_output, y);
  return y;
}

Value body(ModelBuilder& m) {
  Builder& b = m.b;
  const Traits t = traits_of(m.c);
  const auto skipped = json_field<double>(m.c.raw, "layerdrop", m.c.model_type, 0);
  if (m.o.dropout && skipped > 0)
    throw UsageError("layerdrop is {}: graft trains all blocks in every step", skipped);
  const bool projected = t.table_width != m.c.hidden;
  const auto scope = b.scope("decoder");
  Value x = m.token_embeddings("embed_tokens", {}, t.table_width);
  if (projected) x = nn::linear(b, x, "project_in", m.c.hidden, false);
  x = ops::add(b, x,
               nn::embedding(b, m.positions(), "embed_positions",
                             m.c.max_positions + m.c.first_position, m.c.hidden));
  b.mark(Role::embedding_output, x);
  x = m.blocks(x, "layers", [&](Value v) { return block(m, v, t); });
  if (t.final_norm) x = norm(m, x, "final_layer_norm", t);
  if (projected) x = nn::linear(b, x, "project_out", t.table_width, false);
  m.hidden(m.c.layers, x);
  return x;
}

Value classify(ModelBuilder& m, Value x) { return m.last_token_score(x); }
Value language(ModelBuilder& m, Value x) { return m.vocabulary_logits(x); }

}  // namespace

const Family kOpt = {"opt",    Family::Kind::decoder,
                     "model",  Family::Positions::from_offset,
                     read,     body,
                     nullptr,  classify,
                     language, "",
                     "model",  "lm_head"};

}  // namespace graft::opt
