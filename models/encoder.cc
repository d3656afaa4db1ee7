#include "models/encoder.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "core/error.h"
#include "nn/layers.h"

namespace graft {
namespace {

// Where the three families call the same thing by different names.
struct Names {
  const char *block, *query, *key, *value, *attention_out, *attention_norm, *up, *down, *norm;
};
constexpr Names kBert = {
    "encoder.layer",        "attention.self.query",   "attention.self.key",
    "attention.self.value", "attention.output.dense", "attention.output.LayerNorm",
    "intermediate.dense",   "output.dense",           "output.LayerNorm"};
constexpr Names kDistil = {"transformer.layer", "attention.q_lin",   "attention.k_lin",
                           "attention.v_lin",   "attention.out_lin", "sa_layer_norm",
                           "ffn.lin1",          "ffn.lin2",          "output_layer_norm"};

// A lookup beyond a table would read as zeros.
void check_ids(std::span<const int64_t> ids, int64_t size, const char* what, const char* field) {
  for (const int64_t id : ids) {
    if (id < 0 || id >= size) {
      throw UsageError(
          "the {} {} is beyond the model's {} of {}; do tokenizer and model belong together?", what,
          id, field, size);
    }
  }
}

class EncoderBuilder {
 public:
  EncoderBuilder(const ModelConfig& config, const EncoderOptions& options)
      : c_(config), o_(options), names_(config.model_type == "distilbert" ? kDistil : kBert) {}

  Graph build() {
    const Shape tokens{o_.batch, o_.length};
    mask_ = b_.input("attention_mask", DType::i64, tokens);
    Value x;
    {
      const auto scope = b_.scope(trimmed(encoder_prefix(c_, o_.head)));
      x = embeddings(tokens);
      for (int64_t i = 0; i < c_.layers; ++i) {
        const auto layer = b_.scope(fmt::format("{}.{}", names_.block, i));
        b_.layer = static_cast<int>(i);
        x = block(x);
        hidden(i + 1, x);
      }
      b_.layer = -1;
      b_.mark(Role::final_hidden, x);
      b_.output("last_hidden", x);
      if (o_.head == Head::none && c_.model_type != "distilbert") b_.output("pooler", pooler(x));
      if (o_.head == Head::classification && c_.model_type == "bert") x = pooler(x);
    }
    head(x);
    return b_.finish();
  }

 private:
  static std::string trimmed(std::string prefix) {
    if (!prefix.empty()) prefix.pop_back();
    return prefix;
  }

  Value embeddings(const Shape& tokens) {
    const auto scope = b_.scope("embeddings");
    Value x = nn::embedding(b_, b_.input("input_ids", DType::i64, tokens), "word_embeddings",
                            c_.vocab, c_.hidden);
    b_.mark(Role::embedding_tokens, x);
    const Value at = b_.input("position_ids", DType::i64, tokens);
    x = ops::add(b_, x, nn::embedding(b_, at, "position_embeddings", c_.max_positions, c_.hidden));
    if (c_.token_types > 0) {
      const Value type = b_.input("token_type_ids", DType::i64, tokens);
      x = ops::add(b_, x,
                   nn::embedding(b_, type, "token_type_embeddings", c_.token_types, c_.hidden));
    }
    x = nn::layer_norm(b_, x, "LayerNorm", c_.norm_eps);
    b_.mark(Role::embedding_output, x);
    hidden(0, x);
    return x;
  }

  Value projection(Value x, const char* name, Role role) {
    const Value y = nn::linear(b_, x, name, c_.hidden);
    b_.mark(role, y);
    return ops::reshape(b_, y, {o_.batch, o_.length, c_.heads, c_.hidden / c_.heads});
  }

  // x1 = LN(x + Attn(x)); y = LN(x1 + FFN(x1))
  Value block(Value x) {
    b_.mark(Role::block_input, x);
    const Value q = projection(x, names_.query, Role::attention_query);
    const Value k = projection(x, names_.key, Role::attention_key);
    const Value v = projection(x, names_.value, Role::attention_value);
    AttentionAttrs attrs;
    const int64_t head_size = c_.hidden / c_.heads;
    attrs.scale = 1 / std::sqrt(static_cast<double>(head_size));
    Value context = ops::attention(b_, q, k, v, {}, mask_, attrs);
    context = ops::reshape(b_, context, {o_.batch, o_.length, c_.hidden});
    b_.mark(Role::attention_context, context);
    const Value attended = nn::linear(b_, context, names_.attention_out, c_.hidden);
    b_.mark(Role::attention_block_output, attended);
    const Value x1 =
        nn::layer_norm(b_, ops::add(b_, attended, x), names_.attention_norm, c_.norm_eps);
    b_.mark(Role::attention_output, x1);
    const Value up = nn::linear(b_, x1, names_.up, c_.intermediate);
    b_.mark(Role::mlp_up, up);
    const Value activation = ops::activation(b_, up, c_.activation);
    b_.mark(Role::mlp_activation, activation);
    const Value down = nn::linear(b_, activation, names_.down, c_.hidden);
    b_.mark(Role::mlp_block_output, down);
    const Value y = nn::layer_norm(b_, ops::add(b_, down, x1), names_.norm, c_.norm_eps);
    b_.mark(Role::block_output, y);
    return y;
  }

  void hidden(int64_t i, Value x) {
    if (o_.hidden_states) b_.output(fmt::format("hidden/{}", i), x);
  }

  // The first token.
  Value first(Value x) {
    return ops::reshape(b_, ops::slice(b_, x, 1, 0, 1), {o_.batch, c_.hidden});
  }

  Value pooler(Value x) {
    return ops::tanh(b_, nn::linear(b_, first(x), "pooler.dense", c_.hidden));
  }

  int64_t labels() const {
    return o_.labels > 0 ? o_.labels : static_cast<int64_t>(c_.labels.size());
  }

  // Mean of the rows whose mask is 1.
  Value mean_pool(Value x) {
    const Value mask =
        ops::cast(b_, b_.input("pool_mask", DType::i64, {o_.batch, o_.length}), DType::f32);
    const Value row = ops::reshape(b_, mask, {o_.batch, 1, o_.length});
    const Value total = ops::reshape(b_, ops::matmul(b_, row, x), {o_.batch, c_.hidden});
    return ops::div(b_, total, ops::sum(b_, mask, {1}, true));
  }

  void head(Value x) {
    switch (o_.head) {
      case Head::none:
        return;
      case Head::classification:
        if (c_.model_type == "roberta") {
          x = ops::tanh(b_, fresh_linear(first(x), "classifier.dense", c_.hidden));
          x = fresh_linear(x, "classifier.out_proj", labels());
        } else if (c_.model_type == "distilbert") {
          x = ops::relu(b_, fresh_linear(first(x), "pre_classifier", c_.hidden));
          x = fresh_linear(x, "classifier", labels());
        } else {
          x = fresh_linear(x, "classifier", labels());
        }
        break;
      case Head::tokens:
        x = fresh_linear(x, "classifier", labels());
        break;
      case Head::masked_lm:
        x = masked_lm(x);
        break;
      case Head::mean_pooled:
        x = mean_pool(x);
        b_.output("embedding", x);
        x = fresh_linear(x, "classifier", labels());
        break;
    }
    b_.mark(Role::head, x);
    b_.output("logits", x);
  }

  // Not part of the pretrained model: drawn N(0, 0.02) with zero bias where a file does not bring
  // it.
  Value fresh_linear(Value x, std::string_view name, int64_t out) {
    const auto scope = b_.scope(name);
    const Value w = b_.param({.name = b_.path("weight"),
                              .type = {DType::f32, {out, c_.hidden}},
                              .init = Init::normal(0.02)});
    const Value bias =
        b_.param({.name = b_.path("bias"), .type = {DType::f32, {out}}, .init = Init::zeros()});
    return ops::linear(b_, x, w, bias);
  }

  Value masked_lm(Value x) {
    const auto scope = b_.scope("cls.predictions");
    {
      const auto transform = b_.scope("transform");
      x = ops::activation(b_, nn::linear(b_, x, "dense", c_.hidden), c_.activation);
      x = nn::layer_norm(b_, x, "LayerNorm", c_.norm_eps);
    }
    // The decoder's weight is the token table.
    const Value table =
        b_.param_value(encoder_prefix(c_, o_.head) + "embeddings.word_embeddings.weight");
    return ops::linear(b_, x, table, nn::weight(b_, "bias", {c_.vocab}));
  }

  const ModelConfig& c_;
  const EncoderOptions& o_;
  const Names& names_;
  Builder b_;
  Value mask_;
};

}  // namespace

Head head_of(const ModelConfig& config) {
  const std::string& a = config.architecture;
  if (a.ends_with("ForSequenceClassification")) return Head::classification;
  if (a.ends_with("ForTokenClassification")) return Head::tokens;
  if (a == "BertForMaskedLM") return Head::masked_lm;
  if (a.empty() || a.ends_with("Model")) return Head::none;
  throw UsageError(
      "the class {} is not known; known: ...Model, ...ForSequenceClassification, "
      "...ForTokenClassification, BertForMaskedLM",
      a);
}

Head task_head(const ModelConfig& config) {
  return config.architecture.ends_with("ForSequenceClassification") ? Head::classification
                                                                    : Head::mean_pooled;
}

int64_t longest_row(const ModelConfig& config) {
  // RoBERTa counts positions from pad_id + 1.
  return config.max_positions - (config.model_type == "roberta" ? config.pad_id + 1 : 0);
}

std::string encoder_prefix(const ModelConfig& config, Head head) {
  return head == Head::none || head == Head::mean_pooled ? "" : config.model_type + ".";
}

Graph build_encoder(const ModelConfig& config, const EncoderOptions& options) {
  if (options.length > config.max_positions) {
    throw UsageError("the model has {} positions; a length of {} does not fit",
                     config.max_positions, options.length);
  }
  return EncoderBuilder(config, options).build();
}

std::vector<int64_t> position_ids(const ModelConfig& config, std::span<const int64_t> input_ids,
                                  int64_t batch, int64_t length) {
  std::vector<int64_t> positions(input_ids.size());
  for (int64_t r = 0; r < batch; ++r) {
    int64_t seen = 0;
    for (int64_t i = 0; i < length; ++i) {
      const auto at = static_cast<size_t>(r * length + i);
      if (config.model_type != "roberta") {
        positions[at] = i;
      } else {
        positions[at] = input_ids[at] == config.pad_id ? config.pad_id : config.pad_id + ++seen;
      }
    }
  }
  return positions;
}

void fill_encoder_inputs(const ModelConfig& config, std::span<const EncoderRow> rows,
                         int64_t length, int64_t virtual_tokens,
                         const std::function<Tensor*(const std::string&)>& input) {
  auto data = [&](const char* name) {
    Tensor* t = input(name);
    return t == nullptr ? nullptr : t->data<int64_t>();
  };
  int64_t *ids = data("input_ids"), *mask = data("attention_mask"), *pool = data("pool_mask"),
          *types = data("token_type_ids");
  const int64_t v = virtual_tokens, T = length + v;
  for (size_t r = 0; r < rows.size(); ++r) {
    const EncoderRow& x = rows[r];
    check_ids(x.ids, config.vocab, "token id", "vocab_size");
    if (types != nullptr) check_ids(x.types, config.token_types, "token type", "type_vocab_size");
    for (int64_t t = 0; t < T; ++t) {
      const int64_t at = static_cast<int64_t>(r) * T + t;
      const auto from = static_cast<size_t>(t - v);
      const bool real = t >= v && from < x.ids.size();
      ids[at] = real ? x.ids[from] : t < v ? config.pad_id + 1 : config.pad_id;
      mask[at] = real || t < v;
      if (pool != nullptr) pool[at] = real;
      if (types != nullptr) types[at] = real && !x.types.empty() ? x.types[from] : 0;
    }
  }
  const std::vector<int64_t> positions = position_ids(
      config, {ids, rows.size() * static_cast<size_t>(T)}, static_cast<int64_t>(rows.size()), T);
  std::ranges::copy(positions, data("position_ids"));
}

}  // namespace graft
