// GPT-2 (Radford et al. 2019): a pre-norm decoder with learned positions; its files hold the
// weights of products as [in, out].
#include <cmath>

#include "models/families.h"
#include "nn/layers.h"

namespace graft::gpt2 {
namespace {

void read(ConfigReader& r, ModelConfig& c) {
  c.norm_eps = r.real("layer_norm_epsilon", 0, 1, 1e-5);
  c.max_positions = r.size("n_positions", 1024);
  c.tied = r.flag("tie_word_embeddings", true);
  c.activation = r.text("activation_function", "gelu_new");
  const bool scaled = r.flag("scale_attn_weights", true);
  c.attention_scale = scaled ? 1 / std::sqrt(static_cast<double>(c.head_size)) : 1;
  c.scaled_by_layer = r.flag("scale_attn_by_inverse_layer_idx", false);
  c.dropout.embedding = r.rate("embd_pdrop", 0.1);
  c.dropout.attention = r.rate("attn_pdrop", 0.1);
  c.dropout.hidden = r.rate("resid_pdrop", 0.1);
  c.dropout.tokens = r.rate("classifier_dropout", r.rate("hidden_dropout", 0.1));
  r.ignore({// Rounding of 16-bit floats alone.
            "reorder_and_upcast_attn",
            // Of GPT2DoubleHeadsModel.
            "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
            "summary_use_proj"});
}

Value attention(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  const auto scope = b.scope("attn");
  const int64_t C = m.c.hidden;
  const Value qkv = nn::conv1d(b, x, "c_attn", 3 * C);
  auto heads = [&](int64_t piece, Role role) {
    const Value y = ops::slice(b, qkv, -1, piece * C, (piece + 1) * C);
    b.mark(role, y);
    return m.split_heads(y, m.c.heads, m.c.head_size);
  };
  const Value q = heads(0, Role::attention_query);
  const Value k = heads(1, Role::attention_key);
  const Value v = heads(2, Role::attention_value);
  const Value y = nn::conv1d(b, m.join_heads(m.causal_attention(q, k, v)), "c_proj", C);
  return m.dropout(y, m.c.dropout.hidden, "c_proj");
}

Value mlp(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  const auto scope = b.scope("mlp");
  const Value up = nn::conv1d(b, x, "c_fc", m.c.intermediate);
  b.mark(Role::mlp_up, up);
  const Value activation = ops::activation(b, up, m.c.activation);
  b.mark(Role::mlp_activation, activation);
  return m.dropout(nn::conv1d(b, activation, "c_proj", m.c.hidden), m.c.dropout.hidden, "c_proj");
}

// x1 = x + Attn(LN(x)); y = x1 + FFN(LN(x1))
Value block(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  b.mark(Role::block_input, x);
  const Value attended = attention(m, nn::layer_norm(b, x, "ln_1", m.c.norm_eps));
  b.mark(Role::attention_block_output, attended);
  const Value x1 = ops::add(b, x, attended);
  b.mark(Role::attention_output, x1);
  const Value added = mlp(m, nn::layer_norm(b, x1, "ln_2", m.c.norm_eps));
  b.mark(Role::mlp_block_output, added);
  const Value y = ops::add(b, x1, added);
  b.mark(Role::block_output, y);
  return y;
}

Value body(ModelBuilder& m) {
  Builder& b = m.b;
  Value x = m.token_embeddings("wte");
  x = ops::add(b, x, nn::embedding(b, m.positions(), "wpe", m.c.max_positions, m.c.hidden));
  x = m.dropout(x, m.c.dropout.embedding, "wpe");
  b.mark(Role::embedding_output, x);
  x = m.blocks(x, "h", [&](Value v) { return block(m, v); });
  x = nn::layer_norm(b, x, "ln_f", m.c.norm_eps);
  m.hidden(m.c.layers, x);
  return x;
}

Value classify(ModelBuilder& m, Value x) { return m.last_token_score(x); }
Value language(ModelBuilder& m, Value x) { return m.vocabulary_logits(x); }

}  // namespace

const Family kGpt2 = {"gpt2",        Family::Kind::decoder,
                      "transformer", Family::Positions::visible,
                      read,          body,
                      nullptr,       classify,
                      language,      "classifier",
                      "transformer", "lm_head"};

}  // namespace graft::gpt2
