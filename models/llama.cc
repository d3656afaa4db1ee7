// LLaMA (2302.13971, 2407.21783) and the families that follow its block: Mistral (2310.06825),
// Qwen2 (2407.10671), Qwen3 (2505.09388), Gemma (2403.08295), Gemma 2 (2408.00118).
#include <cmath>

#include "core/error.h"
#include "models/families.h"
#include "models/rope.h"
#include "nn/layers.h"

namespace graft::llama {
namespace {

// Where the families differ beyond sizes.
struct Traits {
  bool query_bias, output_bias, mlp_bias;
  bool head_norms;   // queries and keys are normed per head
  bool gemma;        // norms by 1 + weight, embeddings scaled
  bool outer_norms;  // each half of a block is normed again before it is added
};

Traits traits_of(const ModelConfig& c) {
  const std::string& t = c.model_type;
  const bool attention_bias = c.flag("attention_bias", false);
  Traits traits = {};
  traits.query_bias = attention_bias || t == "qwen2";
  traits.output_bias = attention_bias;
  traits.mlp_bias = c.flag("mlp_bias", false);
  traits.head_norms = t == "qwen3";
  traits.gemma = t == "gemma" || t == "gemma2";
  traits.outer_norms = t == "gemma2";
  return traits;
}

void read(ConfigReader& r, ModelConfig& c, bool tied) {
  c.norm_eps = r.real("rms_norm_eps", 0, 1, 1e-6);
  c.max_positions = r.size("max_position_embeddings", 2048);
  c.tied = r.flag("tie_word_embeddings", tied);
  c.rope_frequencies = rope_frequencies(r, "rope_theta", c.head_size, c.head_size);
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_size));
  r.flag("attention_bias", false);
  r.flag("mlp_bias", false);
  c.dropout.attention = r.rate("attention_dropout", 0);
  c.dropout.tokens = r.rate("classifier_dropout", r.rate("hidden_dropout", 0.1));
  r.ignore({"pretraining_tp", "rope_interleaved"});
}

void read_llama(ConfigReader& r, ModelConfig& c) {
  read(r, c, false);
  c.activation = r.text("hidden_act", "silu");
}

// Which layers have a window, where the file lists them; empty: it does not.
std::vector<bool> read_layer_types(ConfigReader& r, const ModelConfig& c) {
  std::vector<bool> sliding;
  for (const std::string& type : r.texts("layer_types")) {
    if (type != "sliding_attention" && type != "full_attention")
      r.fail("layer_types", "sliding_attention or full_attention");
    sliding.push_back(type == "sliding_attention");
  }
  if (!sliding.empty() && static_cast<int64_t>(sliding.size()) != c.layers)
    r.fail("layer_types", fmt::format("{} entries", c.layers));
  return sliding;
}

// One window for every layer, or for those that layer_types names.
void read_windows(ConfigReader& r, ModelConfig& c) {
  const std::vector<bool> sliding = read_layer_types(r, c);
  if (!r.has("sliding_window")) return;
  const int64_t window = r.size("sliding_window");
  for (size_t i = 0; i < static_cast<size_t>(c.layers); ++i)
    c.windows.push_back(sliding.empty() || sliding[i] ? window : 0);
}

void read_mistral(ConfigReader& r, ModelConfig& c) {
  read_llama(r, c);
  read_windows(r, c);
}

void read_qwen(ConfigReader& r, ModelConfig& c) {
  read_llama(r, c);
  r.ignore({"max_window_layers", "sliding_window"});
  read_layer_types(r, c);
  if (!r.flag("use_sliding_window", false)) return;
  // Where the file does not list the layers: those from max_window_layers on.
  if (r.has("layer_types")) {
    read_windows(r, c);
    return;
  }
  const int64_t window = r.size("sliding_window", 4096);
  const int64_t from = r.integer("max_window_layers", 0, 1 << 20, 28);
  for (int64_t i = 0; i < c.layers; ++i) c.windows.push_back(i >= from ? window : 0);
}

void read_gemma(ConfigReader& r, ModelConfig& c) {
  read(r, c, true);
  // The published files name the exact GELU where the weights were made with the tanh form.
  c.activation = r.text("hidden_activation", "gelu_pytorch_tanh");
  r.ignore({"hidden_act"});
  r.only("use_bidirectional_attention", false);
}

void read_gemma2(ConfigReader& r, ModelConfig& c) {
  read_gemma(r, c);
  c.attention_scale = 1 / std::sqrt(r.real("query_pre_attn_scalar", 0, 1e9, 256.0));
  if (r.has("attn_logit_softcapping"))
    c.attention_softcap = r.real("attn_logit_softcapping", 0, 1e9);
  if (r.has("final_logit_softcapping")) c.logit_softcap = r.real("final_logit_softcapping", 0, 1e9);
  const bool listed = r.has("layer_types");
  read_windows(r, c);
  // Unless the file lists the layers: every other one, from the first.
  for (size_t i = 1; !listed && i < c.windows.size(); i += 2) c.windows[i] = 0;
  r.ignore({"cache_implementation"});
}

Value norm(ModelBuilder& m, Value x, std::string_view name, const Traits& t) {
  const auto scope = m.b.scope(name);
  Value w = nn::weight(m.b, "weight", {m.b.shape(x)[-1]});
  if (t.gemma) w = ops::add_scalar(m.b, w, 1);
  return ops::rms_norm(m.b, x, w, m.c.norm_eps);
}

Value projection(ModelBuilder& m, Value x, const char* name, int64_t heads, bool bias, Role role) {
  const Value y = nn::linear(m.b, x, name, heads * m.c.head_size, bias);
  m.b.mark(role, y);
  return m.split_heads(y, heads, m.c.head_size);
}

Value attention(ModelBuilder& m, Value x, const Traits& t) {
  const auto scope = m.b.scope("self_attn");
  const ModelConfig& c = m.c;
  Value q = projection(m, x, "q_proj", c.heads, t.query_bias, Role::attention_query);
  Value k = projection(m, x, "k_proj", c.kv_heads, t.query_bias, Role::attention_key);
  const Value v = projection(m, x, "v_proj", c.kv_heads, t.query_bias, Role::attention_value);
  if (t.head_norms) {
    q = norm(m, q, "q_norm", t);
    k = norm(m, k, "k_norm", t);
  }
  const Value context = m.join_heads(m.causal_attention(m.rope(q), m.rope(k), v));
  return nn::linear(m.b, context, "o_proj", c.hidden, t.output_bias);
}

// down(act(gate(x)) * up(x))
Value mlp(ModelBuilder& m, Value x, const Traits& t) {
  Builder& b = m.b;
  const auto scope = b.scope("mlp");
  const Value gate = nn::linear(b, x, "gate_proj", m.c.intermediate, t.mlp_bias);
  b.mark(Role::mlp_gate, gate);
  const Value up = nn::linear(b, x, "up_proj", m.c.intermediate, t.mlp_bias);
  b.mark(Role::mlp_up, up);
  const Value activation = ops::mul(b, ops::activation(b, gate, m.c.activation), up);
  b.mark(Role::mlp_activation, activation);
  return nn::linear(b, activation, "down_proj", m.c.hidden, t.mlp_bias);
}

// x1 = x + Attn(N(x)); y = x1 + FFN(N(x1)); Gemma 2 norms what is added, too.
Value block(ModelBuilder& m, Value x, const Traits& t) {
  Builder& b = m.b;
  b.mark(Role::block_input, x);
  Value attended = attention(m, norm(m, x, "input_layernorm", t), t);
  if (t.outer_norms) attended = norm(m, attended, "post_attention_layernorm", t);
  b.mark(Role::attention_block_output, attended);
  const Value x1 = ops::add(b, x, attended);
  b.mark(Role::attention_output, x1);
  const char* const before =
      t.outer_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm";
  Value added = mlp(m, norm(m, x1, before, t), t);
  if (t.outer_norms) added = norm(m, added, "post_feedforward_layernorm", t);
  b.mark(Role::mlp_block_output, added);
  const Value y = ops::add(b, x1, added);
  b.mark(Role::block_output, y);
  return y;
}

Value body(ModelBuilder& m) {
  const Traits t = traits_of(m.c);
  Value x = m.token_embeddings("embed_tokens");
  if (t.gemma) {
    // The factor is a float in the reference.
    x = ops::scale(m.b, x, static_cast<float>(std::sqrt(static_cast<double>(m.c.hidden))));
  }
  m.b.mark(Role::embedding_output, x);
  x = m.blocks(x, "layers", [&](Value v) { return block(m, v, t); });
  x = norm(m, x, "norm", t);
  m.hidden(m.c.layers, x);
  return x;
}

Value classify(ModelBuilder& m, Value x) { return m.last_token_score(x); }

Value language(ModelBuilder& m, Value x) {
  x = m.vocabulary_logits(x);
  if (m.c.logit_softcap == 0) return x;
  const double cap = m.c.logit_softcap;
  return ops::scale(m.b, ops::tanh(m.b, ops::scale(m.b, x, 1 / cap)), cap);
}

constexpr Family family(const char* type, void (*read)(ConfigReader&, ModelConfig&),
                        const char* answers_prefix) {
  return {type,           Family::Kind::decoder,
          "model",        Family::Positions::visible,
          read,           body,
          nullptr,        classify,
          language,       "score",
          answers_prefix, "lm_head"};
}

}  // namespace

const Family kLlama = family("llama", read_llama, "transformer");
const Family kMistral = family("mistral", read_mistral, "model");
const Family kQwen2 = family("qwen2", read_qwen, "transformer");
const Family kQwen3 = family("qwen3", read_qwen, "transformer");
const Family kGemma = family("gemma", read_gemma, "");
const Family kGemma2 = family("gemma2", read_gemma2, "");

}  // namespace graft::llama
