#include "models/model.h"

#include "core/error.h"
#include "models/family.h"

namespace graft {
namespace {

[[noreturn]] void no_head(const ModelConfig& c, const char* what) {
  throw UsageError("models of type {} have no head for {}", c.model_type, what);
}

// Where an answer starts and where it ends, side by side and each for itself.
Value answers(ModelBuilder& m, Value x) {
  x = m.dropout(x, m.c.dropout.answers, "qa_outputs");
  const Value both = m.fresh_linear(x, "qa_outputs", 2);
  for (const auto& [name, at] : {std::pair{"start_logits", 0}, std::pair{"end_logits", 1}}) {
    const Value one = ops::slice(m.b, both, -1, at, at + 1);
    m.b.output(name, ops::reshape(m.b, one, {m.o.batch, m.o.length}));
  }
  return both;
}

// What stands on the last hidden states; absent for the bare body.
Value head(ModelBuilder& m, Value x) {
  const Family& family = *m.c.family;
  switch (m.o.head) {
    case Head::none:
      return {};
    case Head::classification:
      if (family.classify == nullptr) no_head(m.c, "sequence classification");
      return family.classify(m, x);
    case Head::tokens:
      if (family.token_head.empty()) no_head(m.c, "token classification");
      return m.fresh_linear(m.dropout(x, m.c.dropout.tokens, family.token_head), family.token_head,
                            m.labels());
    case Head::question_answering:
      if (family.answers_prefix.empty()) no_head(m.c, "question answering");
      return answers(m, x);
    case Head::masked_lm:
    case Head::causal_lm:
    case Head::seq2seq_lm:
      if (family.language == nullptr) no_head(m.c, "language modelling");
      return family.language(m, x);
    case Head::mean_pooled: {
      const Value mean = m.pool(x);
      m.b.output("embedding", mean);
      return m.fresh_linear(mean, "classifier", m.labels());
    }
  }
  return {};
}

// Whether the head stands on the second stack. The bare class has both unless its name says so.
bool decodes(const ModelConfig& c, const ModelOptions& o) {
  if (c.family->decode == nullptr || o.part == Part::encoder) return false;
  if (o.head == Head::none) return !c.architecture.ends_with("EncoderModel");
  return o.head == Head::seq2seq_lm || o.head == Head::classification;
}

void check(const ModelConfig& c, const ModelOptions& o) {
  if (c.max_positions > 0 && o.length > c.max_positions) {
    throw UsageError("the model has {} positions; a length of {} does not fit", c.max_positions,
                     o.length);
  }
  if (o.dropout && o.cache.use != CacheOptions::Use::none)
    throw UsageError("dropout is for training, and a cache for text that is written");
  const bool image = c.family->kind == Family::Kind::image;
  if (image && o.head != Head::none && o.head != Head::classification) no_head(c, "text");
  const bool two = c.family->decode != nullptr;
  if (!two && o.part != Part::whole)
    throw UsageError("models of type {} are one stack; there is no part to build", c.model_type);
  if (o.part == Part::decoder && !decodes(c, o))
    throw UsageError("this head of {} stands on the encoder; there is no decoder to build",
                     c.model_type);
  if (o.part == Part::encoder && o.head != Head::none)
    throw UsageError("an encoder is built without a head");
  if (two && (o.head == Head::masked_lm || o.head == Head::causal_lm))
    no_head(c, "masked or causal language modelling");
  if (!two && o.head == Head::seq2seq_lm) no_head(c, "conditional generation");
}

Value body(ModelBuilder& m) {
  const Family& family = *m.c.family;
  if (family.decode == nullptr) return family.body(m);
  Value encoded;
  if (m.o.part == Part::decoder) {
    encoded = m.b.input("encoder_last", DType::f32, {m.o.batch, m.o.length, m.c.hidden});
  } else {
    // Where a text goes on, what the decoder reads of the encoder was kept: methods see the whole
    // model still, and what nobody reads is not computed.
    encoded = family.body(m);
    m.b.layer = -1;
    if (m.o.cache.use != CacheOptions::Use::extend) m.b.output("encoder_last", encoded);
  }
  return decodes(m.c, m.o) ? family.decode(m, encoded) : encoded;
}

}  // namespace

Head head_of(const ModelConfig& config) {
  const std::string& a = config.architecture;
  if (a.ends_with("ForSequenceClassification") || a.ends_with("ForImageClassification"))
    return Head::classification;
  if (a.ends_with("ForTokenClassification")) return Head::tokens;
  if (a.ends_with("ForQuestionAnswering")) return Head::question_answering;
  if (a.ends_with("ForMaskedLM")) return Head::masked_lm;
  if (a.ends_with("ForConditionalGeneration")) return Head::seq2seq_lm;
  if (a.ends_with("ForCausalLM") || a.ends_with("LMHeadModel")) return Head::causal_lm;
  if (a.empty() || a.ends_with("Model")) return Head::none;
  throw UsageError(
      "the class {} is not known; known: ...Model, ...ForSequenceClassification, "
      "...ForImageClassification, ...ForTokenClassification, ...ForQuestionAnswering, "
      "...ForMaskedLM, ...ForCausalLM, ...ForConditionalGeneration",
      a);
}

Head task_head(const ModelConfig& config) {
  const bool classifies = config.architecture.ends_with("ForSequenceClassification") ||
                          config.family->kind == Family::Kind::decoder ||
                          config.family->kind == Family::Kind::image;
  return classifies ? Head::classification : Head::mean_pooled;
}

std::string body_prefix(const ModelConfig& config, Head head) {
  if (head == Head::none || head == Head::mean_pooled || head == Head::seq2seq_lm) return "";
  const Family& f = *config.family;
  return std::string(head == Head::question_answering ? f.answers_prefix : f.prefix) + ".";
}

Graph build_model(const ModelConfig& config, const ModelOptions& options) {
  check(config, options);
  ModelBuilder m(config, options);
  std::string prefix = body_prefix(config, options.head);
  if (!prefix.empty()) prefix.pop_back();
  Value x;
  {
    const auto scope = m.b.scope(prefix);
    x = body(m);
    m.b.layer = -1;
    m.b.mark(Role::final_hidden, x);
    m.b.output("last_hidden", x);
    if (options.head == Head::none && config.family->pooler != nullptr)
      m.b.output("pooler", config.family->pooler(m, x));
  }
  if (options.last_logits) x = ops::slice(m.b, x, 1, m.b.shape(x)[1] - 1, m.b.shape(x)[1]);
  if (const Value logits = head(m, x); logits.valid()) {
    m.b.mark(Role::head, logits);
    m.b.output("logits", logits);
  }
  if (options.dropout && !m.b.graph().input("rng").valid()) {
    throw UsageError(
        "dropout was asked for, but the config of this {} model states a rate of 0 wherever it has "
        "one; state rates in config.json, or train without",
        config.model_type);
  }
  return m.b.finish();
}

}  // namespace graft
