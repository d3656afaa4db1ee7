// BERT (1810.04805), RoBERTa (1907.11692) and DistilBERT (1910.01108): one post-norm encoder under
// three sets of names.
#include <cmath>

#include "core/error.h"
#include "models/families.h"
#include "nn/layers.h"

namespace graft::bert {
namespace {

// Where the three families call the same thing by different names.
struct Names {
  const char *block, *query, *key, *value, *attention_out, *attention_norm, *up, *down, *norm;
  bool drops_attended;  // dropout behind attention's own product
};
constexpr Names kNames = {"encoder.layer",          "attention.self.query",
                          "attention.self.key",     "attention.self.value",
                          "attention.output.dense", "attention.output.LayerNorm",
                          "intermediate.dense",     "output.dense",
                          "output.LayerNorm",       true};
constexpr Names kDistilNames = {"transformer.layer", "attention.q_lin",
                                "attention.k_lin",   "attention.v_lin",
                                "attention.out_lin", "sa_layer_norm",
                                "ffn.lin1",          "ffn.lin2",
                                "output_layer_norm", false};

const Names& names(const ModelBuilder& m) {
  return m.c.model_type == "distilbert" ? kDistilNames : kNames;
}

void read_shared(ConfigReader& r, ModelConfig& c) {
  c.norm_eps = r.real("layer_norm_eps", 0, 1, 1e-12);
  c.max_positions = r.size("max_position_embeddings");
  c.tied = r.flag("tie_word_embeddings", true);
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_size));
}

void read_encoder(ConfigReader& r, ModelConfig& c) {
  read_shared(r, c);
  c.activation = r.text("hidden_act", "gelu");
  c.token_types = r.size("type_vocab_size");
  r.only("position_embedding_type", "absolute");
  r.only("is_decoder", false);
  c.dropout.attention = r.rate("attention_probs_dropout_prob", 0.1);
  c.dropout.hidden = c.dropout.embedding = r.rate("hidden_dropout_prob", 0.1);
  c.dropout.classifier = c.dropout.tokens = r.rate("classifier_dropout", c.dropout.hidden);
}

void read_bert(ConfigReader& r, ModelConfig& c) {
  read_encoder(r, c);
  if (c.pad_id < 0) c.pad_id = 0;
}

void read_roberta(ConfigReader& r, ModelConfig& c) {
  read_encoder(r, c);
  if (c.pad_id < 0) c.pad_id = 1;
  c.first_position = c.pad_id + 1;
}

void read_distilbert(ConfigReader& r, ModelConfig& c) {
  read_shared(r, c);
  c.activation = r.text("activation", "gelu");
  if (c.pad_id < 0) c.pad_id = 0;
  c.dropout.attention = r.rate("attention_dropout", 0.1);
  c.dropout.hidden = c.dropout.embedding = c.dropout.tokens = r.rate("dropout", 0.1);
  c.dropout.classifier = r.rate("seq_classif_dropout", 0.2);
  c.dropout.answers = r.rate("qa_dropout", 0.1);
  r.ignore({"sinusoidal_pos_embds"});
}

Value embeddings(ModelBuilder& m) {
  Builder& b = m.b;
  const auto scope = b.scope("embeddings");
  Value x = m.token_embeddings("word_embeddings");
  x = ops::add(
      b, x, nn::embedding(b, m.positions(), "position_embeddings", m.c.max_positions, m.c.hidden));
  if (m.c.token_types > 0) {
    x = ops::add(b, x,
                 nn::embedding(b, m.input("token_type_ids"), "token_type_embeddings",
                               m.c.token_types, m.c.hidden));
  }
  x = nn::layer_norm(b, x, "LayerNorm", m.c.norm_eps);
  x = m.dropout(x, m.c.dropout.embedding, "LayerNorm");
  b.mark(Role::embedding_output, x);
  return x;
}

Value projection(ModelBuilder& m, Value x, const char* name, Role role) {
  const Value y = nn::linear(m.b, x, name, m.c.hidden);
  m.b.mark(role, y);
  return m.split_heads(y, m.c.heads, m.c.head_size);
}

// x1 = LN(x + Attn(x)); y = LN(x1 + FFN(x1))
Value block(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  const Names& n = names(m);
  b.mark(Role::block_input, x);
  const Value q = projection(m, x, n.query, Role::attention_query);
  const Value k = projection(m, x, n.key, Role::attention_key);
  const Value v = projection(m, x, n.value, Role::attention_value);
  AttentionAttrs attrs;
  attrs.scale = m.c.attention_scale;
  const Value context = m.join_heads(m.attention(q, k, v, {}, m.mask(), attrs));
  Value attended = nn::linear(b, context, n.attention_out, m.c.hidden);
  if (n.drops_attended) attended = m.dropout(attended, m.c.dropout.hidden, n.attention_out);
  b.mark(Role::attention_block_output, attended);
  const Value x1 = nn::layer_norm(b, ops::add(b, attended, x), n.attention_norm, m.c.norm_eps);
  b.mark(Role::attention_output, x1);
  const Value up = nn::linear(b, x1, n.up, m.c.intermediate);
  b.mark(Role::mlp_up, up);
  const Value activation = ops::activation(b, up, m.c.activation);
  b.mark(Role::mlp_activation, activation);
  const Value down =
      m.dropout(nn::linear(b, activation, n.down, m.c.hidden), m.c.dropout.hidden, n.down);
  b.mark(Role::mlp_block_output, down);
  const Value y = nn::layer_norm(b, ops::add(b, down, x1), n.norm, m.c.norm_eps);
  b.mark(Role::block_output, y);
  return y;
}

Value body(ModelBuilder& m) {
  Value x = embeddings(m);
  x = m.blocks(x, names(m).block, [&](Value v) { return block(m, v); });
  m.hidden(m.c.layers, x);
  return x;
}

Value pooler(ModelBuilder& m, Value x) {
  return ops::tanh(m.b, nn::linear(m.b, m.first_token(x), "pooler.dense", m.c.hidden));
}

Value classify_bert(ModelBuilder& m, Value x) {
  Value pooled;
  {
    const auto scope = m.b.scope(m.c.family->prefix);
    pooled = pooler(m, x);
  }
  pooled = m.dropout(pooled, m.c.dropout.classifier, "classifier");
  return m.fresh_linear(pooled, "classifier", m.labels());
}

Value classify_roberta(ModelBuilder& m, Value x) {
  x = m.dropout(m.first_token(x), m.c.dropout.classifier, "classifier.dense");
  x = ops::tanh(m.b, m.fresh_linear(x, "classifier.dense", m.c.hidden));
  x = m.dropout(x, m.c.dropout.classifier, "classifier.out_proj");
  return m.fresh_linear(x, "classifier.out_proj", m.labels());
}

Value classify_distilbert(ModelBuilder& m, Value x) {
  x = ops::relu(m.b, m.fresh_linear(m.first_token(x), "pre_classifier", m.c.hidden));
  x = m.dropout(x, m.c.dropout.classifier, "classifier");
  return m.fresh_linear(x, "classifier", m.labels());
}

// Of the masked-LM heads: a transformed state against the token table, and a bias of its own.
Value masked_lm(ModelBuilder& m, Value x, std::string_view activation, const char* dense,
                const char* norm, const char* bias) {
  x = ops::activation(m.b, nn::linear(m.b, x, dense, m.c.hidden), activation);
  x = nn::layer_norm(m.b, x, norm, m.c.norm_eps);
  return ops::linear(m.b, x, m.b.param_value(m.table()), nn::weight(m.b, bias, {m.c.vocab}));
}

Value language_bert(ModelBuilder& m, Value x) {
  const auto scope = m.b.scope("cls.predictions");
  return masked_lm(m, x, m.c.activation, "transform.dense", "transform.LayerNorm", "bias");
}

Value language_roberta(ModelBuilder& m, Value x) {
  const auto scope = m.b.scope("lm_head");
  return masked_lm(m, x, "gelu", "dense", "layer_norm", "bias");
}

Value language_distilbert(ModelBuilder& m, Value x) {
  return masked_lm(m, x, m.c.activation, "vocab_transform", "vocab_layer_norm",
                   "vocab_projector.bias");
}

constexpr std::string_view kTokenHead = "classifier";

}  // namespace

using Kind = Family::Kind;
using Positions = Family::Positions;
const Family kBert = {"bert",        Kind::encoder, "bert", Positions::all,
                      read_bert,     body,          pooler, classify_bert,
                      language_bert, kTokenHead,    "bert", "cls.predictions.decoder"};
const Family kRoberta = {"roberta",        Kind::encoder, "roberta", Positions::by_padding_id,
                         read_roberta,     body,          pooler,    classify_roberta,
                         language_roberta, kTokenHead,    "roberta", "lm_head.decoder"};
const Family kDistilbert = {"distilbert",        Kind::encoder, "distilbert", Positions::all,
                            read_distilbert,     body,          nullptr,      classify_distilbert,
                            language_distilbert, kTokenHead,    "distilbert", "vocab_projector"};

}  // namespace graft::bert
