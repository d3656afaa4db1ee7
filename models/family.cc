#include "models/family.h"

#include <algorithm>

#include "core/error.h"
#include "core/random.h"
#include "models/families.h"
#include "nn/layers.h"

namespace graft {

Value ModelBuilder::token_embeddings(std::string_view name, Value ids,
                                     std::optional<int64_t> width) {
  table_ = b.path(std::string(name) + ".weight");
  if (!ids.valid()) ids = token_ids();
  const Value x = nn::embedding(b, ids, name, c.vocab, width.value_or(c.hidden));
  b.mark(Role::embedding_tokens, x);
  if (c.tied) table_is_also(fmt::format("{}.weight", c.family->vocabulary_head));
  return x;
}

void ModelBuilder::table_is_also(const std::string& name) {
  std::vector<std::string>& aliases = b.param_ref(table_).aliases;
  if (std::ranges::find(aliases, name) == aliases.end()) aliases.push_back(name);
}

Value ModelBuilder::split_heads(Value x, int64_t heads, int64_t size) {
  return ops::reshape(b, x, {b.shape(x)[0], b.shape(x)[1], heads, size});
}

Value ModelBuilder::join_heads(Value context) {
  const Shape s = b.shape(context);
  context = ops::reshape(b, context, {s[0], s[1], s[2] * s[3]});
  b.mark(Role::attention_context, context);
  return context;
}

Value ModelBuilder::cache(const char* name, const Shape& shape) {
  return b.param({.name = fmt::format("cache.{}.{}", b.layer, name),
                  .type = {DType::f32, shape},
                  .kind = Param::Kind::state,
                  .init = Init::zeros()});
}

Value ModelBuilder::cached(const char* name, Value x) {
  const Shape s = b.shape(x);
  const Value column = o.cache.use == CacheOptions::Use::fill
                           ? b.constant(0, {}, DType::i64)
                           : b.input("cache_column", DType::i64, {});
  const Value before = cache(name, {s[0], o.cache.capacity, s[2], s[3]});
  const Value after = ops::write_rows(b, before, x, column);
  b.assign(fmt::format("cache.{}.{}", b.layer, name), after);
  return after;
}

Value ModelBuilder::kept(const char* name, const std::function<Value()>& x) {
  const Value made = x();
  if (o.cache.use == CacheOptions::Use::extend) return cache(name, b.shape(made));
  if (o.cache.use == CacheOptions::Use::fill) {
    cache(name, b.shape(made));
    b.assign(fmt::format("cache.{}.{}", b.layer, name), made);
  }
  return made;
}

Value ModelBuilder::causal_attention(Value q, Value k, Value v) {
  AttentionAttrs attrs;
  attrs.scale = c.attention_scale / (c.scaled_by_layer ? b.layer + 1 : 1);
  attrs.softcap = c.attention_softcap;
  Value visible;
  switch (o.cache.use) {
    case CacheOptions::Use::extend: {
      k = cached("key", k);
      v = cached("value", v);
      // What a window hides of the columns before, the caller's mask hides.
      const char* const name = c.window(b.layer) > 0 ? "cache_window_mask" : "cache_mask";
      visible = b.input(name, DType::i64, {o.batch, o.cache.capacity});
      break;
    }
    case CacheOptions::Use::fill:
      cached("key", k);
      cached("value", v);
      [[fallthrough]];
    case CacheOptions::Use::none:
      attrs.causal = true;
      attrs.window = c.window(b.layer);
      visible = mask();
  }
  return attention(q, k, v, {}, visible, attrs);
}

Value ModelBuilder::attention(Value q, Value k, Value v, Value bias, Value keep,
                              AttentionAttrs attrs) {
  if (!o.dropout || c.dropout.attention == 0) return ops::attention(b, q, k, v, bias, keep, attrs);
  attrs.dropout = c.dropout.attention;
  attrs.stream = stream_of_site(b.path("attention.probabilities.dropout"));
  return ops::attention(b, q, k, v, bias, keep, attrs, rng());
}

Value ModelBuilder::dropout(Value x, double rate, std::string_view site) {
  if (!o.dropout || rate == 0) return x;
  return ops::dropout(b, x, rng(), rate, stream_of_site(b.path(fmt::format("{}.dropout", site))));
}

Value ModelBuilder::rope(Value x) {
  RopeAttrs attrs;
  attrs.inv_freq = c.rope_frequencies;
  return ops::rope(b, x, positions(), attrs);
}

Value ModelBuilder::blocks(Value x, std::string_view name,
                           const std::function<Value(Value)>& block) {
  for (int64_t i = 0; i < c.layers; ++i) {
    hidden(i, x);
    const auto layer = b.scope(fmt::format("{}.{}", name, i));
    b.layer = static_cast<int>(i);
    x = block(x);
  }
  return x;
}

void ModelBuilder::hidden(int64_t i, Value x, std::string_view stack) {
  if (o.hidden_states)
    b.output(fmt::format("{}{}hidden/{}", stack, stack.empty() ? "" : "_", i), x);
}

int64_t ModelBuilder::labels() const {
  return o.labels > 0 ? o.labels : static_cast<int64_t>(c.labels.size());
}

Value ModelBuilder::fresh_linear(Value x, std::string_view name, int64_t out, bool bias) {
  const auto scope = b.scope(name);
  const Value w = b.param({.name = b.path("weight"),
                           .type = {DType::f32, {out, b.shape(x)[-1]}},
                           .init = Init::normal(0.02)});
  if (!bias) return ops::linear(b, x, w);
  return ops::linear(
      b, x, w,
      b.param({.name = b.path("bias"), .type = {DType::f32, {out}}, .init = Init::zeros()}));
}

Value ModelBuilder::first_token(Value x) {
  return ops::reshape(b, ops::slice(b, x, 1, 0, 1), {o.batch, b.shape(x)[-1]});
}

Value ModelBuilder::pool(Value x) {
  const int64_t T = b.shape(x)[1];
  const Value mask = ops::cast(b, b.input("pool_mask", DType::i64, {o.batch, T}), DType::f32);
  const Value row = ops::reshape(b, mask, {o.batch, 1, T});
  const Value total = ops::reshape(b, ops::matmul(b, row, x), {o.batch, b.shape(x)[-1]});
  return ops::div(b, total, ops::sum(b, mask, {1}, true));
}

Value ModelBuilder::last_token_score(Value x) {
  return fresh_linear(pool(x), "score", labels(), false);
}

Value ModelBuilder::vocabulary_logits(Value x, bool bias) {
  const auto scope = b.scope(c.family->vocabulary_head);
  const Value w =
      c.tied ? b.param_value(table_) : nn::weight(b, "weight", {c.vocab, b.shape(x)[-1]});
  return ops::linear(b, x, w, bias ? nn::weight(b, "bias", {c.vocab}) : Value{});
}

const Family& find_family(std::string_view model_type, const std::string& file) {
  std::string known;
  for (const Family& f : families()) {
    if (f.model_type == model_type) return f;
    known += (known.empty() ? "" : ", ") + std::string(f.model_type);
  }
  throw UsageError("{}: the model type '{}' is not known; known: {}", file, model_type, known);
}

}  // namespace graft
