// GPT-NeoX (2204.06745) and Pythia (2304.01373): attention and MLP beside each other on one stream,
// rotary positions on a part of each head.
#include <cmath>

#include "models/families.h"
#include "models/rope.h"
#include "nn/layers.h"

namespace graft::gpt_neox {
namespace {

// Channels of a head that rotate: a share of them, under an older and a newer name.
int64_t rotary_dimensions(ConfigReader& r, const ModelConfig& c) {
  const double newer = r.share("partial_rotary_factor", 0.25);
  return static_cast<int64_t>(static_cast<double>(c.head_size) * r.share("rotary_pct", newer));
}

void read(ConfigReader& r, ModelConfig& c) {
  c.norm_eps = r.real("layer_norm_eps", 0, 1, 1e-5);
  c.max_positions = r.size("max_position_embeddings", 2048);
  c.tied = r.flag("tie_word_embeddings", false);
  c.activation = r.text("hidden_act", "gelu");
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_size));
  const char* const base = r.has("rotary_emb_base") ? "rotary_emb_base" : "rope_theta";
  c.rope_frequencies = rope_frequencies(r, base, c.head_size, rotary_dimensions(r, c));
  r.flag("attention_bias", true);
  r.flag("use_parallel_residual", true);
  c.dropout.attention = r.rate("attention_dropout", 0);
  c.dropout.hidden = c.dropout.embedding = r.rate("hidden_dropout", 0);
  c.dropout.tokens = r.rate("classifier_dropout", 0.1);
  r.ignore({"rope_theta"});
}

// The rows of query_key_value lie head by head: a head's query, key and value.
Value attention(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  const auto scope = b.scope("attention");
  const int64_t C = m.c.hidden, D = m.c.head_size;
  const bool bias = m.c.flag("attention_bias", true);
  const Value qkv =
      m.split_heads(nn::linear(b, x, "query_key_value", 3 * C, bias), m.c.heads, 3 * D);
  auto heads = [&](int64_t piece, Role role) {
    Value y = ops::slice(b, qkv, -1, piece * D, (piece + 1) * D);
    y = ops::reshape(b, y, {m.o.batch, m.o.length, C});
    b.mark(role, y);
    return m.split_heads(y, m.c.heads, D);
  };
  const Value q = m.rope(heads(0, Role::attention_query));
  const Value k = m.rope(heads(1, Role::attention_key));
  const Value v = heads(2, Role::attention_value);
  const Value y = nn::linear(b, m.join_heads(m.causal_attention(q, k, v)), "dense", C, bias);
  return m.dropout(y, m.c.dropout.hidden, "dense");
}

Value mlp(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  const auto scope = b.scope("mlp");
  const Value up = nn::linear(b, x, "dense_h_to_4h", m.c.intermediate);
  b.mark(Role::mlp_up, up);
  const Value activation = ops::activation(b, up, m.c.activation);
  b.mark(Role::mlp_activation, activation);
  return m.dropout(nn::linear(b, activation, "dense_4h_to_h", m.c.hidden), m.c.dropout.hidden,
                   "dense_4h_to_h");
}

// Beside each other: y = x + Attn(LN1(x)) + FFN(LN2(x)). One after the other: x1 = x +
// Attn(LN1(x)), y = x1 + FFN(LN2(x1)).
Value block(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  b.mark(Role::block_input, x);
  const Value attended = attention(m, nn::layer_norm(b, x, "input_layernorm", m.c.norm_eps));
  b.mark(Role::attention_block_output, attended);
  const Value x1 = ops::add(b, x, attended);
  // What the MLP reads.
  const Value stream = m.c.flag("use_parallel_residual", true) ? x : x1;
  b.mark(Role::attention_output, stream);
  const Value added = mlp(m, nn::layer_norm(b, stream, "post_attention_layernorm", m.c.norm_eps));
  b.mark(Role::mlp_block_output, added);
  const Value y = ops::add(b, x1, added);
  b.mark(Role::block_output, y);
  return y;
}

Value body(ModelBuilder& m) {
  Builder& b = m.b;
  Value x = m.dropout(m.token_embeddings("embed_in"), m.c.dropout.embedding, "embed_in");
  b.mark(Role::embedding_output, x);
  x = m.blocks(x, "layers", [&](Value v) { return block(m, v); });
  x = nn::layer_norm(b, x, "final_layer_norm", m.c.norm_eps);
  m.hidden(m.c.layers, x);
  return x;
}

Value classify(ModelBuilder& m, Value x) { return m.last_token_score(x); }
Value language(ModelBuilder& m, Value x) { return m.vocabulary_logits(x); }

}  // namespace

const Family kGptNeox = {"gpt_neox", Family::Kind::decoder,
                         "gpt_neox", Family::Positions::visible,
                         read,       body,
                         nullptr,    classify,
                         language,   "classifier",
                         "gpt_neox", "embed_out"};

}  // namespace graft::gpt_neox
