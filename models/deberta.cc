// DeBERTa, versions 2 and 3 (2006.03654, 2111.09543): scores of content on content, content on
// position and position on content.
#include <algorithm>
#include <cmath>

#include "models/families.h"
#include "nn/layers.h"

namespace graft::deberta {
namespace {

// The kinds of scores beside content on content, as the file lists them: a list, or "p2c|c2p".
std::vector<std::string> score_kinds(ConfigReader& r) {
  std::vector<std::string> kinds;
  if (r.has("pos_att_type") && r.raw("pos_att_type").is_string()) {
    const std::string all = r.text("pos_att_type");
    for (size_t at = 0; at <= all.size();) {
      const size_t bar = std::min(all.find('|', at), all.size());
      kinds.push_back(all.substr(at, bar - at));
      at = bar + 1;
    }
  } else {
    kinds = r.texts("pos_att_type");
  }
  for (const std::string& kind : kinds) {
    if (kind != "c2p" && kind != "p2c") r.fail("pos_att_type", "of c2p and p2c");
  }
  return kinds;
}

void read(ConfigReader& r, ModelConfig& c) {
  c.norm_eps = r.real("layer_norm_eps", 0, 1, 1e-7);
  c.activation = r.text("hidden_act", "gelu");
  c.max_positions = r.size("max_position_embeddings", 512);
  c.token_types = r.integer("type_vocab_size", 0, 1 << 24, 0);
  c.tied = r.flag("tie_word_embeddings", true);
  if (c.pad_id < 0) c.pad_id = 0;
  c.table_positions = r.flag("position_biased_input", true);
  const std::vector<std::string> kinds = score_kinds(r);
  c.content_on_position = std::ranges::find(kinds, "c2p") != kinds.end();
  c.position_on_content = std::ranges::find(kinds, "p2c") != kinds.end();
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_size) *
                                    (1 + c.content_on_position + c.position_on_content));
  r.flag("share_att_key", false);
  if (r.text("norm_rel_ebd", "none") != "none") r.only("norm_rel_ebd", "layer_norm");
  const int64_t distance = r.integer("max_relative_positions", -1, 1 << 24, -1);
  const int64_t buckets = r.integer("position_buckets", -1, 1 << 24, -1);
  if (r.flag("relative_attention", false)) {
    c.relative_distance = distance < 1 ? c.max_positions : distance;
    c.relative_buckets = buckets < 1 ? c.relative_distance : buckets;
    if (c.relative_buckets < 2) r.fail("position_buckets", "at least 2");
    if (buckets < 1) {
      c.relative_distance = 0;  // every distance has its row
    } else if (c.relative_distance - 1 <= buckets / 2) {
      r.fail("position_buckets", fmt::format("less than twice {}", c.relative_distance - 1));
    }
  }
  r.only("embedding_size", c.hidden);
  r.only("attention_head_size", c.head_size);
  r.only("pooler_hidden_size", c.hidden);
  r.only("conv_kernel_size", 0);
  r.text("pooler_hidden_act", "gelu");
  c.dropout.attention = r.rate("attention_probs_dropout_prob", 0.1);
  c.dropout.hidden = c.dropout.embedding = c.dropout.tokens = r.rate("hidden_dropout_prob", 0.1);
  c.dropout.pooler = r.rate("pooler_dropout", 0);
  c.dropout.classifier = r.rate("cls_dropout", c.dropout.hidden);
  r.ignore({"legacy", "summary_type", "summary_activation", "summary_last_dropout", "conv_act",
            "conv_groups"});
}

Value embeddings(ModelBuilder& m) {
  Builder& b = m.b;
  const auto scope = b.scope("embeddings");
  Value x = m.token_embeddings("word_embeddings");
  if (m.c.table_positions) {
    x = ops::add(
        b, x,
        nn::embedding(b, m.positions(), "position_embeddings", m.c.max_positions, m.c.hidden));
  }
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

// Rows of the table of relative positions, by the distance query - key. T tokens have 2 T - 1
// distances, and one more makes rows of scores shift by one (`shifted`).
struct Distances {
  Value falling;  // T - 1, ..., -T: [2 T, C]
  Value rising;   // -(T - 1), ..., T
};

// The table, absent where the model has none.
Value table_of_distances(ModelBuilder& m) {
  if (m.c.relative_buckets == 0) return {};
  const Value table =
      nn::weight(m.b, "rel_embeddings.weight", {2 * m.c.relative_buckets, m.c.hidden});
  return m.c.text("norm_rel_ebd", "none") == "layer_norm"
             ? nn::layer_norm(m.b, table, "LayerNorm", m.c.norm_eps)
             : table;
}

Distances distances(ModelBuilder& m, Value table) {
  Builder& b = m.b;
  if (!table.valid()) return {};
  const int64_t T = m.o.length;
  const Value rising =
      ops::add_scalar(b, ops::cumsum(b, b.constant(1, {2 * T}), 0), -static_cast<double>(T));
  auto rows = [&](Value distance) {
    const Value bucket =
        ops::deberta_bucket(b, ops::cast(b, distance, DType::i64),
                            {.span = m.c.relative_buckets, .max_distance = m.c.relative_distance});
    return ops::index_select(b, table, bucket, 0);
  };
  return {m.c.content_on_position ? rows(ops::neg(b, rising)) : Value{},
          m.c.position_on_content ? rows(rising) : Value{}};
}

// [B, H, T, 2 T] -> [B, H, T, T]: row i begins at column T - 1 - i.
Value shifted(Builder& b, Value x) {
  const Shape s = b.shape(x);
  const int64_t T = s[2];
  x = ops::reshape(b, x, {s[0], s[1], 2 * T * T});
  x = ops::slice(b, x, 2, T - 1, T - 1 + T * (2 * T - 1));
  x = ops::reshape(b, x, {s[0], s[1], T, 2 * T - 1});
  return ops::slice(b, x, 3, 0, T);
}

// The products of content [B, T, H, D] with projected positions [2 T, C], shifted to where query
// and key of a column's distance meet.
Value products(ModelBuilder& m, Value content, Value positions) {
  Builder& b = m.b;
  const int64_t rows = b.shape(positions)[0];
  positions = ops::reshape(b, positions, {1, rows, m.c.heads, m.c.head_size});
  return shifted(b, ops::matmul(b, ops::transpose(b, content, {0, 2, 1, 3}),
                                ops::transpose(b, positions, {0, 2, 1, 3}), false, true));
}

// The scores that positions have a part in, scaled: [B, H, T, S].
Value position_scores(ModelBuilder& m, Value q, Value k, const Distances& d) {
  Builder& b = m.b;
  const bool shared = m.c.flag("share_att_key", false);
  Value scores;
  if (d.falling.valid()) {  // of query i and key j: column T - 1 - i + j is the distance i - j
    scores =
        products(m, q, nn::linear(b, d.falling, shared ? "key_proj" : "pos_key_proj", m.c.hidden));
  }
  if (d.rising.valid()) {  // of key j and query i: column T - 1 - j + i
    const Value p = products(
        m, k, nn::linear(b, d.rising, shared ? "query_proj" : "pos_query_proj", m.c.hidden));
    const Value turned = ops::transpose(b, p, {0, 1, 3, 2});
    scores = scores.valid() ? ops::add(b, scores, turned) : turned;
  }
  return scores.valid() ? ops::scale(b, scores, m.c.attention_scale) : Value{};
}

Value projection(ModelBuilder& m, Value x, const char* name, Role role) {
  const Value y = nn::linear(m.b, x, name, m.c.hidden);
  m.b.mark(role, y);
  return m.split_heads(y, m.c.heads, m.c.head_size);
}

// What all blocks share of the positions.
struct Positions {
  Value table;
  Distances rows;
};

// The rows for one block: dropout takes others from the table in each.
Distances distances_of_block(ModelBuilder& m, const Positions& p) {
  if (!p.table.valid()) return {};
  const Value dropped = m.dropout(p.table, m.c.dropout.hidden, "rel_embeddings");
  return dropped == p.table ? p.rows : distances(m, dropped);
}

Value self_attention(ModelBuilder& m, Value x, const Positions& p) {
  const auto scope = m.b.scope("attention.self");
  const Value q = projection(m, x, "query_proj", Role::attention_query);
  const Value k = projection(m, x, "key_proj", Role::attention_key);
  const Value v = projection(m, x, "value_proj", Role::attention_value);
  AttentionAttrs attrs;
  attrs.scale = m.c.attention_scale;
  const Value bias = position_scores(m, q, k, distances_of_block(m, p));
  return m.join_heads(m.attention(q, k, v, bias, m.mask(), attrs));
}

// x1 = LN(x + Attn(x)); y = LN(x1 + FFN(x1))
Value block(ModelBuilder& m, Value x, const Positions& p) {
  Builder& b = m.b;
  b.mark(Role::block_input, x);
  const Value attended =
      m.dropout(nn::linear(b, self_attention(m, x, p), "attention.output.dense", m.c.hidden),
                m.c.dropout.hidden, "attention.output.dense");
  b.mark(Role::attention_block_output, attended);
  const Value x1 =
      nn::layer_norm(b, ops::add(b, attended, x), "attention.output.LayerNorm", m.c.norm_eps);
  b.mark(Role::attention_output, x1);
  const Value up = nn::linear(b, x1, "intermediate.dense", m.c.intermediate);
  b.mark(Role::mlp_up, up);
  const Value activation = ops::activation(b, up, m.c.activation);
  b.mark(Role::mlp_activation, activation);
  const Value down = m.dropout(nn::linear(b, activation, "output.dense", m.c.hidden),
                               m.c.dropout.hidden, "output.dense");
  b.mark(Role::mlp_block_output, down);
  const Value y = nn::layer_norm(b, ops::add(b, down, x1), "output.LayerNorm", m.c.norm_eps);
  b.mark(Role::block_output, y);
  return y;
}

Value body(ModelBuilder& m) {
  Value x = embeddings(m);
  const auto scope = m.b.scope("encoder");
  const Value table = table_of_distances(m);
  const Positions p{table, distances(m, table)};
  x = m.blocks(x, "layer", [&](Value v) { return block(m, v, p); });
  m.hidden(m.c.layers, x);
  return x;
}

Value classify(ModelBuilder& m, Value x) {
  x = m.dropout(m.first_token(x), m.c.dropout.pooler, "pooler.dense");
  x = m.fresh_linear(x, "pooler.dense", m.c.hidden);
  x = ops::activation(m.b, x, m.c.text("pooler_hidden_act", "gelu"));
  x = m.dropout(x, m.c.dropout.classifier, "classifier");
  return m.fresh_linear(x, "classifier", m.labels());
}

}  // namespace

const Family kDebertaV2 = {"deberta-v2", Family::Kind::encoder,
                           "deberta",    Family::Positions::all,
                           read,         body,
                           nullptr,      classify,
                           nullptr,      "classifier",
                           "deberta",    "cls.predictions.decoder"};

}  // namespace graft::deberta
