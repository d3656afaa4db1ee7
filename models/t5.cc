// T5 (1910.10683) with its version 1.1, Flan-T5 (2210.11416) and mT5 (2010.11934): pre-norm stacks
// without biases, positions only as a bias on the scores.
#include <cmath>

#include "models/families.h"
#include "nn/layers.h"

namespace graft::t5 {
namespace {

void read(ConfigReader& r, ModelConfig& c, const char* feed_forward, bool tied) {
  c.norm_eps = r.real("layer_norm_epsilon", 0, 1, 1e-6);
  c.tied = r.flag("tie_word_embeddings", tied);
  c.attention_scale = 1;  // the start of the query weights makes up for it
  c.decoder_layers = r.integer("num_decoder_layers", 1, 10000, c.layers);
  // A direction has its own half of the buckets, and its nearer half is for single distances.
  c.relative_buckets = r.integer("relative_attention_num_buckets", 4, 1 << 20, 32);
  c.relative_distance = r.integer("relative_attention_max_distance", c.relative_buckets / 2 + 1,
                                  int64_t{1} << 30, 128);
  const std::string kind = r.text("feed_forward_proj", feed_forward);
  c.gated = kind.starts_with("gated-");
  c.activation = c.gated ? kind.substr(6) : kind;
  if (c.activation.empty() || c.activation.find('-') != std::string::npos)
    r.fail("feed_forward_proj", "an activation, or gated- and an activation");
  if (kind == "gated-gelu") c.activation = "gelu_new";
  if (c.pad_id < 0) c.pad_id = 0;
  if (c.eos_ids.empty()) c.eos_ids = {1};
  if (c.decoder_start_id < 0) c.decoder_start_id = c.pad_id;
  r.only("is_decoder", false);
  c.dropout.hidden = c.dropout.embedding = c.dropout.attention = r.rate("dropout_rate", 0.1);
  c.dropout.classifier = c.dropout.tokens = r.rate("classifier_dropout", 0);
  r.ignore({"dense_act_fn", "is_gated_act", "initializer_factor", "n_positions", "output_past"});
}

void read_t5(ConfigReader& r, ModelConfig& c) { read(r, c, "relu", true); }
void read_mt5(ConfigReader& r, ModelConfig& c) { read(r, c, "gated-gelu", false); }

Value norm(ModelBuilder& m, Value x, std::string_view name) {
  const auto scope = m.b.scope(name);
  return ops::rms_norm(m.b, x, nn::weight(m.b, "weight", {m.c.hidden}), m.c.norm_eps);
}

// 0, 1, ..., n - 1
Value count(Builder& b, int64_t n) {
  return ops::add_scalar(b, ops::cumsum(b, b.constant(1, {n}), 0), -1);
}

// How far each key lies from each query, [1, T, S]. Over a cache the one query stands at its
// column.
Value distances(ModelBuilder& m, int64_t length, bool decoder) {
  Builder& b = m.b;
  if (decoder && m.o.cache.use == CacheOptions::Use::extend) {
    const int64_t columns = m.o.cache.capacity;
    const Value query = ops::cast(b, b.input("cache_column", DType::i64, {}), DType::f32);
    return ops::sub(b, ops::reshape(b, count(b, columns), {1, 1, columns}), query);
  }
  const Value position = count(b, length);
  return ops::sub(b, ops::reshape(b, position, {1, 1, length}),
                  ops::reshape(b, position, {1, length, 1}));
}

// What is added to the scores [B, H, T, S] of every block of a stack, by how far a key lies from
// the query: [1, H, T, S]. The table stands in the first block.
Value relative_bias(ModelBuilder& m, int64_t length, bool decoder) {
  Builder& b = m.b;
  const auto scope = b.scope("block.0.layer.0.SelfAttention");
  const Value bucket = ops::t5_bucket(b, ops::cast(b, distances(m, length, decoder), DType::i64),
                                      {.bidirectional = !decoder,
                                       .num_buckets = m.c.relative_buckets,
                                       .max_distance = m.c.relative_distance});
  const Value rows =
      nn::embedding(b, bucket, "relative_attention_bias", m.c.relative_buckets, m.c.heads);
  return ops::transpose(b, rows, {0, 3, 1, 2});
}

Value projection(ModelBuilder& m, Value x, const char* name, Role role) {
  const Value y = nn::linear(m.b, x, name, m.c.heads * m.c.head_size, false);
  m.b.mark(role, y);
  return m.split_heads(y, m.c.heads, m.c.head_size);
}

// Attn(N(x)) among the tokens of a stack. A decoder's goes through the cache if there is one.
Value self_attention(ModelBuilder& m, Value x, Value bias, bool decoder) {
  using Use = CacheOptions::Use;
  Builder& b = m.b;
  x = norm(m, x, "layer_norm");
  const auto scope = b.scope("SelfAttention");
  const Value q = projection(m, x, "q", Role::attention_query);
  Value k = projection(m, x, "k", Role::attention_key);
  Value v = projection(m, x, "v", Role::attention_value);
  AttentionAttrs attrs;
  attrs.scale = m.c.attention_scale;
  attrs.causal = decoder;
  Value keep = decoder ? Value{} : m.mask();
  if (decoder && m.o.cache.use == Use::fill) {
    m.cached("key", k);
    m.cached("value", v);
  } else if (decoder && m.o.cache.use == Use::extend) {
    k = m.cached("key", k);
    v = m.cached("value", v);  // the one query stands behind all columns that keep shows
    keep = b.input("cache_mask", DType::i64, {m.o.batch, m.o.cache.capacity});
  }
  const Value context = m.join_heads(m.attention(q, k, v, bias, keep, attrs));
  return m.dropout(nn::linear(b, context, "o", m.c.hidden, false), m.c.dropout.hidden, "o");
}

// Attn(N(x)) over the encoder's output, whose keys and values are made once for a text.
Value cross_attention(ModelBuilder& m, Value x, Value memory) {
  Builder& b = m.b;
  x = norm(m, x, "layer_norm");
  const auto scope = b.scope("EncDecAttention");
  const Value q = projection(m, x, "q", Role::attention_query);
  const Value k =
      m.kept("cross_key", [&] { return projection(m, memory, "k", Role::attention_key); });
  const Value v =
      m.kept("cross_value", [&] { return projection(m, memory, "v", Role::attention_value); });
  AttentionAttrs attrs;
  attrs.scale = m.c.attention_scale;
  const Value context = m.join_heads(m.attention(q, k, v, {}, m.mask(), attrs));
  return m.dropout(nn::linear(b, context, "o", m.c.hidden, false), m.c.dropout.hidden, "o");
}

// wo(act(wi(x))), or wo(act(wi_0(x)) * wi_1(x))
Value feed_forward(ModelBuilder& m, Value x) {
  Builder& b = m.b;
  x = norm(m, x, "layer_norm");
  const auto scope = b.scope("DenseReluDense");
  Value inner;
  if (m.c.gated) {
    const Value gate = nn::linear(b, x, "wi_0", m.c.intermediate, false);
    b.mark(Role::mlp_gate, gate);
    const Value up = nn::linear(b, x, "wi_1", m.c.intermediate, false);
    b.mark(Role::mlp_up, up);
    inner = ops::mul(b, ops::activation(b, gate, m.c.activation), up);
  } else {
    const Value up = nn::linear(b, x, "wi", m.c.intermediate, false);
    b.mark(Role::mlp_up, up);
    inner = ops::activation(b, up, m.c.activation);
  }
  inner = m.dropout(inner, m.c.dropout.hidden, "act");
  b.mark(Role::mlp_activation, inner);
  return m.dropout(nn::linear(b, inner, "wo", m.c.hidden, false), m.c.dropout.hidden, "wo");
}

// x1 = x + SelfAttn(N(x)); x2 = x1 + CrossAttn(N(x1), memory), in a decoder; y = x2 + FFN(N(x2))
Value block(ModelBuilder& m, Value x, Value memory, Value bias, bool decoder) {
  Builder& b = m.b;
  b.mark(Role::block_input, x);
  {
    const auto layer = b.scope("layer.0");
    const Value y = self_attention(m, x, bias, decoder);
    b.mark(Role::attention_block_output, y);
    x = ops::add(b, x, y);
  }
  if (decoder) {
    const auto layer = b.scope("layer.1");
    x = ops::add(b, x, cross_attention(m, x, memory));
  }
  b.mark(Role::attention_output, x);
  const auto layer = b.scope(decoder ? "layer.2" : "layer.1");
  const Value y = feed_forward(m, x);
  b.mark(Role::mlp_block_output, y);
  x = ops::add(b, x, y);
  b.mark(Role::block_output, x);
  return x;
}

// Embedded tokens down to the normed last states. Blocks are counted through both stacks.
Value stack(ModelBuilder& m, Value ids, Value memory, bool decoder) {
  Builder& b = m.b;
  const char* const name = decoder ? "decoder" : "encoder";
  Value x = m.token_embeddings("shared", ids);
  for (const char* its : {"encoder", "decoder"})
    m.table_is_also(b.path(fmt::format("{}.embed_tokens.weight", its)));
  x = m.dropout(x, m.c.dropout.embedding, fmt::format("{}.embed_tokens", name));
  b.mark(Role::embedding_output, x);
  const auto scope = b.scope(name);
  const Value bias = relative_bias(m, b.shape(ids)[1], decoder);
  const int64_t blocks = decoder ? m.c.decoder_layers : m.c.layers;
  for (int64_t i = 0; i < blocks; ++i) {
    m.hidden(i, x, name);
    const auto place = b.scope(fmt::format("block.{}", i));
    b.layer = static_cast<int>(decoder ? m.c.layers + i : i);
    x = block(m, x, memory, bias, decoder);
  }
  b.layer = -1;
  x = m.dropout(norm(m, x, "final_layer_norm"), m.c.dropout.hidden, "final_layer_norm");
  m.hidden(blocks, x, name);
  return x;
}

Value encode(ModelBuilder& m) { return stack(m, m.token_ids(), {}, false); }

Value decode(ModelBuilder& m, Value encoder_last) {
  return stack(m, m.decoder_token_ids(), encoder_last, true);
}

Value classify(ModelBuilder& m, Value x) {
  const auto scope = m.b.scope("classification_head");
  x = m.dropout(m.pool(x), m.c.dropout.classifier, "dense");
  x = ops::tanh(m.b, m.fresh_linear(x, "dense", m.c.hidden));
  x = m.dropout(x, m.c.dropout.classifier, "out_proj");
  return m.fresh_linear(x, "out_proj", m.labels());
}

Value language(ModelBuilder& m, Value x) {
  if (m.c.tied) x = ops::scale(m.b, x, 1 / std::sqrt(static_cast<double>(m.c.hidden)));
  return m.vocabulary_logits(x);
}

constexpr Family family(const char* type, void (*read)(ConfigReader&, ModelConfig&)) {
  Family f = {};
  f.model_type = type;
  f.kind = Family::Kind::encoder_decoder;
  f.prefix = "transformer";
  f.positions = Family::Positions::all;
  f.read = read;
  f.body = encode;
  f.token_head = "classifier";
  f.decode = decode;
  f.classify = classify;
  f.language = language;
  f.vocabulary_head = "lm_head";
  return f;
}

}  // namespace

const Family kT5 = family("t5", read_t5);
const Family kMt5 = family("mt5", read_mt5);

}  // namespace graft::t5
