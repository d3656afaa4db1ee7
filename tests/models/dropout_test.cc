// Dropout of models in training: where it acts and at which rates, as modules of transformers do in
// train(); gradients of whole models under fixed masks.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/evaluate.h"
#include "autograd/gradient.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "core/random.h"
#include "models/family.h"
#include "models/fresh_weights.h"
#include "models/model.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

ModelConfig config_with(const std::string& model, const Json& fields) {
  const std::string file = golden_dir() + "/models/" + model + "/config.json";
  Json config = parse_json_file(file);
  config.update(fields);
  ModelConfig c = parse_config(config.dump(), file);
  c.folder = golden_dir() + "/models/" + model;
  return c;
}

Graph training_graph(const ModelConfig& config, Head head) {
  return build_model(config, {.batch = 2, .length = 5, .head = head, .labels = 3, .dropout = true});
}

// The rates in the order in which a graph drops.
std::vector<double> rates_of(const Graph& graph) {
  std::vector<double> rates;
  for (const Node& n : graph.nodes()) {
    if (n.op->name == "dropout") rates.push_back(n.attrs.as<DropoutAttrs>().p);
    if (n.op->name == "attention" && n.attrs.as<AttentionAttrs>().dropout > 0)
      rates.push_back(n.attrs.as<AttentionAttrs>().dropout);
  }
  return rates;
}

struct Sites {
  const char* name;
  const char* model;
  Head head;
  Json fields;
  std::vector<double> before, block, behind;
};

class DropoutSites : public ::testing::TestWithParam<Sites> {};

TEST_P(DropoutSites, AreThoseOfTransformers) {
  const Sites& s = GetParam();
  const ModelConfig config = config_with(s.model, s.fields);
  std::vector<double> want = s.before;
  for (int64_t i = 0; i < config.layers; ++i)
    want.insert(want.end(), s.block.begin(), s.block.end());
  want.insert(want.end(), s.behind.begin(), s.behind.end());
  EXPECT_EQ(rates_of(training_graph(config, s.head)), want);
  EXPECT_TRUE(config.unknown.empty()) << fmt::format("{}", fmt::join(config.unknown, " "));
}

const Json kBertRates = {{"hidden_dropout_prob", 0.1}, {"attention_probs_dropout_prob", 0.2}};
const Json kOwnHead = {{"hidden_dropout_prob", 0.1},
                       {"attention_probs_dropout_prob", 0.2},
                       {"classifier_dropout", 0.3}};
const Json kDistilRates = {{"dropout", 0.1},
                           {"attention_dropout", 0.2},
                           {"seq_classif_dropout", 0.3},
                           {"qa_dropout", 0.4}};
const Json kGptRates = {{"embd_pdrop", 0.1}, {"attn_pdrop", 0.2}, {"resid_pdrop", 0.3}};
const Json kNeoxRates = {
    {"hidden_dropout", 0.1}, {"attention_dropout", 0.2}, {"classifier_dropout", 0.3}};
const Json kT5Rates = {{"dropout_rate", 0.1}, {"classifier_dropout", 0.3}};
const Json kAttentionRate = {{"attention_dropout", 0.2}};

INSTANTIATE_TEST_SUITE_P(
    All, DropoutSites,
    ::testing::Values(
        Sites{"bert", "bert_cls", Head::classification, kOwnHead, {0.1}, {0.2, 0.1, 0.1}, {0.3}},
        Sites{"bert_head_like_hidden",
              "bert_cls",
              Head::classification,
              kBertRates,
              {0.1},
              {0.2, 0.1, 0.1},
              {0.1}},
        Sites{"bert_mlm", "bert_mlm", Head::masked_lm, kOwnHead, {0.1}, {0.2, 0.1, 0.1}, {}},
        Sites{"bert_tokens", "bert_tok", Head::tokens, kOwnHead, {0.1}, {0.2, 0.1, 0.1}, {0.3}},
        Sites{
            "bert_answers", "bert", Head::question_answering, kOwnHead, {0.1}, {0.2, 0.1, 0.1}, {}},
        Sites{"bert_pooled", "bert", Head::mean_pooled, kOwnHead, {0.1}, {0.2, 0.1, 0.1}, {}},
        Sites{"roberta",
              "roberta_cls",
              Head::classification,
              kOwnHead,
              {0.1},
              {0.2, 0.1, 0.1},
              {0.3, 0.3}},
        Sites{"distilbert",
              "distilbert_cls",
              Head::classification,
              kDistilRates,
              {0.1},
              {0.2, 0.1},
              {0.3}},
        Sites{"distilbert_answers",
              "distilbert_cls",
              Head::question_answering,
              kDistilRates,
              {0.1},
              {0.2, 0.1},
              {0.4}},
        // In each block first of the table of distances.
        Sites{"deberta",
              "deberta_v2_cls",
              Head::classification,
              {{"hidden_dropout_prob", 0.1},
               {"attention_probs_dropout_prob", 0.2},
               {"pooler_dropout", 0.3},
               {"cls_dropout", 0.4}},
              {0.1},
              {0.1, 0.2, 0.1, 0.1},
              {0.3, 0.4}},
        Sites{"vit", "vit_cls", Head::classification, kBertRates, {0.1}, {0.2, 0.1, 0.1}, {}},
        Sites{"gpt2", "gpt2", Head::causal_lm, kGptRates, {0.1}, {0.2, 0.3, 0.3}, {}},
        Sites{"gpt2_tokens", "gpt2", Head::tokens, kGptRates, {0.1}, {0.2, 0.3, 0.3}, {0.1}},
        Sites{"opt",
              "opt",
              Head::causal_lm,
              {{"dropout", 0.1}, {"attention_dropout", 0.2}},
              {},
              {0.2, 0.1, 0.1},
              {}},
        Sites{"gpt_neox", "gpt_neox", Head::tokens, kNeoxRates, {0.1}, {0.2, 0.1, 0.1}, {0.3}},
        Sites{"llama", "llama", Head::causal_lm, kAttentionRate, {}, {0.2}, {}},
        Sites{"qwen3", "qwen3", Head::causal_lm, kAttentionRate, {}, {0.2}, {}},
        Sites{"gemma2", "gemma2", Head::causal_lm, kAttentionRate, {}, {0.2}, {}},
        Sites{"t5_encoder", "t5", Head::tokens, kT5Rates, {0.1}, {0.1, 0.1, 0.1, 0.1}, {0.1, 0.3}}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Dropout, ADecoderBehindAnEncoderHasThatOfItsOwn) {
  const ModelConfig c = config_with("t5", {{"dropout_rate", 0.1}, {"classifier_dropout", 0.3}});
  // Embeddings and final norm; attention, its result, inside the feed-forward layer and its result.
  const auto encoder = static_cast<size_t>(2 + 4 * c.layers),
             decoder = static_cast<size_t>(2 + 6 * c.decoder_layers);
  std::vector<double> want(encoder + decoder, 0.1);
  EXPECT_EQ(rates_of(training_graph(c, Head::seq2seq_lm)), want);
  want.insert(want.end(), 2, 0.3);
  EXPECT_EQ(rates_of(training_graph(c, Head::classification)), want);
}

// What transformers assumes where a file is silent.
TEST(Dropout, RatesThatAFileDoesNotState) {
  struct Default {
    const char* model;
    std::vector<const char*> fields;
    ModelConfig::Dropout rates;
  };
  const std::vector<const char*> bert = {"hidden_dropout_prob", "attention_probs_dropout_prob",
                                         "classifier_dropout"};
  const Default defaults[] = {
      {"bert_cls", bert, {.1, .1, .1, 0, .1, .1, 0}},
      {"roberta_cls", bert, {.1, .1, .1, 0, .1, .1, 0}},
      {"distilbert_cls",
       {"dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout"},
       {.1, .1, .1, 0, .2, .1, .1}},
      {"deberta_v2_cls",
       {"hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout", "cls_dropout"},
       {.1, .1, .1, 0, .1, .1, 0}},
      {"vit_cls", bert, {}},
      {"gpt2",
       {"embd_pdrop", "attn_pdrop", "resid_pdrop", "classifier_dropout", "hidden_dropout"},
       {.1, .1, .1, 0, 0, .1, 0}},
      {"opt", {"dropout", "attention_dropout"}, {0, 0, .1, 0, 0, 0, 0}},
      {"gpt_neox",
       {"hidden_dropout", "attention_dropout", "classifier_dropout"},
       {0, 0, 0, 0, 0, .1, 0}},
      {"llama", {"attention_dropout"}, {0, 0, 0, 0, 0, .1, 0}},
      {"t5", {"dropout_rate", "classifier_dropout"}, {.1, .1, .1, 0, 0, 0, 0}}};
  for (const Default& d : defaults) {
    Json none = Json::object();
    for (const char* field : d.fields) none[field] = nullptr;
    const ModelConfig::Dropout got = config_with(d.model, none).dropout;
    const auto all = [](const ModelConfig::Dropout& r) {
      return std::vector{r.embedding,  r.attention, r.hidden, r.pooler,
                         r.classifier, r.tokens,    r.answers};
    };
    EXPECT_EQ(all(got), all(d.rates)) << d.model;
  }
}

TEST(Dropout, WhatDoesNotFitIsRefused) {
  EXPECT_NE(error_of<FileError>([] {
              config_with("gpt2", {{"attn_pdrop", 1.0}});
            }).find("the field 'attn_pdrop' should be at least 0 and below 1 but is 1"),
            std::string::npos);
  EXPECT_NE(error_of<UsageError>([] {
              training_graph(config_with("opt", {{"layerdrop", 0.1}}), Head::causal_lm);
            }).find("layerdrop is 0.1"),
            std::string::npos);
  ModelOptions cached{.head = Head::causal_lm, .dropout = true};
  cached.cache = {CacheOptions::Use::fill, 8};
  EXPECT_THROW(build_model(config_with("gpt2", Json::object()), cached), UsageError);
}

std::vector<std::string> names_of_models() {
  std::vector<std::string> names;
  const Json index = parse_json_file(golden_dir() + "/models/index.json");
  for (const Json& m : index.at("models")) names.push_back(m.at("name"));
  return names;
}

class DroppingModels : public ::testing::TestWithParam<std::string> {};

// Every site draws its own numbers, and without the option a graph knows nothing of it.
TEST_P(DroppingModels, DrawAtEachSite) {
  ModelConfig c = config_with(GetParam(), Json::object());
  c.dropout = {.embedding = .1, .attention = .1, .hidden = .1, .pooler = .1, .classifier = .1};
  const Head head = head_of(c);
  std::vector<int64_t> streams;
  const Graph dropping = training_graph(c, head);
  for (const Node& n : dropping.nodes()) {
    if (n.op->name == "dropout") streams.push_back(n.attrs.as<DropoutAttrs>().stream);
    if (n.op->name == "attention") streams.push_back(n.attrs.as<AttentionAttrs>().stream);
  }
  EXPECT_GT(streams.size(), 0u);
  std::ranges::sort(streams);
  EXPECT_EQ(std::ranges::adjacent_find(streams), streams.end());
  EXPECT_GE(streams.front(), 0);
  const Graph plain = build_model(c, {.batch = 2, .length = 5, .head = head, .labels = 3});
  EXPECT_TRUE(rates_of(plain).empty());
  EXPECT_FALSE(plain.input("rng").valid());
}

// Of a sum of results along a random direction of all parameters, in double.
TEST_P(DroppingModels, GradientEqualsDifferences) {
  ModelConfig c = config_with(GetParam(), Json::object());
  c.dropout = {.embedding = .2, .attention = .3, .hidden = .2, .pooler = .2, .classifier = .2};
  Builder b(with_fresh_weights(training_graph(c, head_of(c)), c));
  for (const Param& p : b.graph().params()) b.param_ref(p.name).trainable = is_float(p.type.dtype);
  const auto& outputs = b.graph().outputs();
  const bool has_logits =
      std::ranges::any_of(outputs, [](const auto& o) { return o.first == "logits"; });
  const Value y = b.graph().output(has_logits ? "logits" : "last_hidden");
  const Value g = b.input("g", DType::f32, b.shape(y));
  const Value loss = ops::sum(b, ops::mul(b, y, g));
  for (const auto& [name, v] : gradient(b, loss)) b.output("grad/" + name, v);
  b.output("loss", loss);
  const Graph graph = b.finish();
  ParamStore store;
  store.initialize(graph, 3);
  Inputs inputs;
  for (const std::string& name : graph.input_names()) {
    const Type& type = graph.type(graph.input(name));
    Tensor& t = inputs[name] = Tensor(type.dtype, type.shape);
    for (int64_t i = 0; i < t.elements(); ++i) {
      if (t.dtype() == DType::f32)
        t.data<float>()[i] =
            static_cast<float>(RandomStream(1, 0).normal(static_cast<uint64_t>(i)));
      else
        t.data<int64_t>()[i] = name.ends_with("mask")     ? 1
                               : name == "position_ids"   ? i % 5 + c.first_position
                               : name == "token_type_ids" ? 0
                                                          : 3 + i % 11;
    }
  }
  const Evaluation at = evaluate(graph, inputs, store, Backend::ref);
  const double h = 1e-6;
  double want = 0, size = 0;
  ParamStore plus, minus;
  for (const Param& p : graph.params()) {
    const Tensor x = store.get(p.name).cast(DType::f64);
    Tensor up = x.clone(), down = x.clone();
    const auto grad = at.outputs.find("grad/" + p.name);
    for (int64_t i = 0; i < x.elements() && is_float(p.type.dtype); ++i) {
      const double u = RandomStream(2, hash_name(p.name)).normal(static_cast<uint64_t>(i));
      up.data<double>()[i] += h * u;
      down.data<double>()[i] -= h * u;
      if (grad == at.outputs.end()) continue;
      want += u * grad->second.data<double>()[i];
      size += std::fabs(u * grad->second.data<double>()[i]);
    }
    plus.set(p.name, up);
    minus.set(p.name, down);
  }
  const auto loss_at = [&](const ParamStore& s) {
    return evaluate(graph, inputs, s, Backend::ref).outputs.at("loss").data<double>()[0];
  };
  EXPECT_NEAR((loss_at(plus) - loss_at(minus)) / (2 * h), want, 1e-6 * (1 + size));
  EXPECT_GT(size, 0);
  // And the kernels agree with their definition.
  const Evaluation got = evaluate(graph, inputs, store);
  EXPECT_EQ(
      mismatch(got.outputs.at(has_logits ? "logits" : "last_hidden"),
               at.outputs.at(has_logits ? "logits" : "last_hidden").cast(DType::f32), 1e-4, 1e-5),
      "");
}

INSTANTIATE_TEST_SUITE_P(All, DroppingModels, ::testing::ValuesIn(names_of_models()),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace graft::testing
