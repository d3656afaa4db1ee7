// What an architecture states about itself, and the workbench that its builder gets. One row of
// families.cc and one file for each.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "autograd/builder.h"
#include "autograd/ops.h"
#include "models/config.h"
#include "models/config_reader.h"
#include "models/model.h"

namespace graft {

// A graph in the making.
class ModelBuilder {
 public:
  ModelBuilder(const ModelConfig& config, const ModelOptions& options) : c(config), o(options) {}

  const ModelConfig& c;
  const ModelOptions& o;
  Builder b;

  // ---- inputs, i64 [B, T], declared when asked for
  Value input(const char* name) { return b.input(name, DType::i64, {o.batch, o.length}); }
  Value token_ids() { return input("input_ids"); }
  Value decoder_token_ids() {
    return b.input("decoder_input_ids", DType::i64, {o.batch, target_length()});
  }
  int64_t target_length() const { return o.target_length > 0 ? o.target_length : o.length; }
  Value mask() { return input("attention_mask"); }
  Value positions() { return input("position_ids"); }

  // ---- pieces
  // The token table, named as it is below the current scope: [B, T, C], marked. Of other ids than
  // the input's, or of a width other than the model's, where they are given.
  Value token_embeddings(std::string_view name, Value ids = {}, std::optional<int64_t> width = {});
  // A name of a tied layer under which files may hold the table instead.
  void table_is_also(const std::string& name);
  // x [B, T, C] -> [B, T, heads, size]
  Value split_heads(Value x, int64_t heads, int64_t size);
  // [B, T, H, D] -> [B, T, H D], marked as the attention's context.
  Value join_heads(Value context);
  // A decoder's: causal, within the layer's window, at the config's scale and soft cap, through the
  // cache if there is one. q [B, T, H, D]; k, v [B, T, Hk, D].
  Value causal_attention(Value q, Value k, Value v);
  // The columns of the current layer's cache NAME with x [B, T, H, D] among them.
  Value cached(const char* name, Value x);
  // Keys or values of an encoder's output, made once per text: x() is kept; where the text goes on
  // it is what was kept, and x() is there for methods to see but never computed.
  Value kept(const char* name, const std::function<Value()>& x);
  // Attention with the config's dropout of probabilities.
  Value attention(Value q, Value k, Value v, Value bias, Value keep, AttentionAttrs attrs);
  // x with dropout where the graph is for training; `site` tells its random numbers from others
  // below the current scope.
  Value dropout(Value x, double rate, std::string_view site);
  Value rope(Value x);  // [B, T, H, D] rotated by the positions
  // x = block(x) for every layer, below the scope NAME.i; hidden/i is what block i reads.
  Value blocks(Value x, std::string_view name, const std::function<Value(Value)>& block);
  // Output hidden/i, or STACK_hidden/i where there are two, if hidden states are asked for.
  void hidden(int64_t i, Value x, std::string_view stack = {});

  // ---- pieces of heads
  int64_t labels() const;
  // Not part of the pretrained model: drawn N(0, 0.02) with zero bias where a file does not bring
  // it.
  Value fresh_linear(Value x, std::string_view name, int64_t out, bool bias = true);
  Value first_token(Value x);  // [B, T, C] -> [B, C]
  // Mean over the tokens that the input pool_mask names.
  Value pool(Value x);
  // A decoder's class: a layer "score" without bias on the last token.
  Value last_token_score(Value x);
  // Logits of the vocabulary: the head's own weight, or the token table where the two are tied.
  Value vocabulary_logits(Value x, bool bias = false);

  // Where the token table lies: set by token_embeddings().
  const std::string& table() const { return table_; }

 private:
  Value cache(const char* name, const Shape& shape);
  Value rng() { return b.input("rng", DType::i64, {2}); }  // seed and step

  std::string table_;
};

struct Family {
  enum class Kind : uint8_t { encoder, decoder, encoder_decoder, image };
  // How tokens are counted.
  enum class Positions : uint8_t {
    all,            // 0, 1, ..., padding too
    visible,        // 0, 1, ... over the visible tokens; padding shares its neighbour's number
    from_offset,    // visible tokens from config.first_position on, padding the number before it
    by_padding_id,  // the same, where padding is what has the padding's id
  };

  std::string_view model_type;
  Kind kind;
  // In front of the body's parameters where a class with a head wraps it.
  std::string_view prefix;
  Positions positions;
  void (*read)(ConfigReader& r, ModelConfig& c);
  // Down to the last hidden states [B, T, C], normed as the bare class returns them; those of the
  // encoder where there are two stacks.
  Value (*body)(ModelBuilder& m);
  Value (*pooler)(ModelBuilder& m, Value x);    // null: the bare class has none
  Value (*classify)(ModelBuilder& m, Value x);  // logits [B, labels]; null: no such class
  Value (*language)(ModelBuilder& m, Value x);  // logits [B, T, V]; null: no such class
  // The layer of the class that labels tokens; empty: no such class.
  std::string_view token_head = {};
  // What stands for `prefix` in the question answering class; empty: no such class.
  std::string_view answers_prefix = {};
  // The layer of the vocabulary's logits, whose weight may be the token table; empty: none.
  std::string_view vocabulary_head = {};
  // The second stack, on the last hidden states of the first; null: there is none.
  Value (*decode)(ModelBuilder& m, Value encoder_last) = nullptr;
};

// Throws UsageError naming the families there are.
const Family& find_family(std::string_view model_type, const std::string& file);

}  // namespace graft
