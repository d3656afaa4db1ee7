// Models with two stacks: their parts, what the decoder reads, and the classes without golden data.
#include <gtest/gtest.h>

#include "autograd/evaluate.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

std::string t5_folder() { return golden_dir() + "/models/t5_gated"; }

// Random visible tokens for every input of a graph that a batch has.
struct Batch {
  std::map<std::string, Tensor> inputs;

  Batch(const ModelConfig& config, const Graph& graph, std::span<const TokenRow> rows,
        int64_t length) {
    for (const std::string& name : graph.input_names()) {
      const Type& type = graph.type(graph.input(name));
      if (type.dtype == DType::i64) inputs.emplace(name, Tensor(type.dtype, type.shape));
    }
    fill_inputs(config, rows, length, {}, [&](const std::string& name) {
      const auto it = inputs.find(name);
      return it == inputs.end() ? nullptr : &it->second;
    });
  }
  std::vector<int64_t> values(const char* name) const {
    const auto span = inputs.at(name).span<int64_t>();
    return {span.begin(), span.end()};
  }
};

const std::vector<int64_t> kLong = {7, 3, 9, 1}, kShort = {5, 1}, kTarget = {4, 6, 1};
const TokenRow kRows[] = {{kLong, {}, kTarget}, {kShort, {}, kTarget}};

TEST(Seq2Seq, PartsMakeTheWhole) {
  const ModelConfig config = load_config(t5_folder());
  ModelOptions options{
      .batch = 2, .length = 4, .target_length = 3, .head = Head::seq2seq_lm, .hidden_states = true};
  const Graph whole = build_model(config, options);
  options.part = Part::decoder;
  const Graph decoder = build_model(config, options);
  options.part = Part::encoder;
  options.head = Head::none;
  const Graph encoder = build_model(config, options);

  ParamStore store;
  load_parameters(t5_folder(), whole, store);
  Batch batch(config, whole, kRows, 4);
  const Evaluation want = evaluate(whole, batch.inputs, store);
  const Evaluation memory = evaluate(encoder, batch.inputs, store);
  EXPECT_EQ(mismatch(memory.outputs.at("last_hidden"), want.outputs.at("encoder_last"), 0, 0), "");
  EXPECT_EQ(decoder.input_names(),
            (std::vector<std::string>{"encoder_last", "decoder_input_ids", "attention_mask"}));
  batch.inputs["encoder_last"] = memory.outputs.at("encoder_last");
  const Evaluation got = evaluate(decoder, batch.inputs, store);
  for (const char* name : {"logits", "decoder_hidden/0", "decoder_hidden/2"})
    EXPECT_EQ(mismatch(got.outputs.at(name), want.outputs.at(name), 0, 0), "") << name;
  // Between them the two have all parameters of the model.
  for (const Param& p : whole.params())
    EXPECT_TRUE(encoder.find_param(p.name) != nullptr || decoder.find_param(p.name) != nullptr)
        << p.name;
}

TEST(Seq2Seq, TheDecoderReadsItsLabelsOneLater) {
  const ModelConfig config = load_config(t5_folder());
  const std::vector<int64_t> labels = {4, 6, 1, 8, 1, -100};
  EXPECT_EQ(shifted_right(config, labels, 2, 3), (std::vector<int64_t>{0, 4, 6, 0, 8, 1}));
  EXPECT_EQ(shifted_right(config, {{4, -100, -100}}, 1, 3), (std::vector<int64_t>{0, 4, 0}));

  const Graph graph =
      build_model(config, {.batch = 2, .length = 4, .target_length = 5, .head = Head::seq2seq_lm});
  const Batch batch(config, graph, kRows, 4);
  EXPECT_EQ(batch.values("decoder_input_ids"),
            (std::vector<int64_t>{0, 4, 6, 1, 0, 0, 4, 6, 1, 0}));
  EXPECT_EQ(batch.values("input_ids"), (std::vector<int64_t>{7, 3, 9, 1, 5, 1, 0, 0}));
  EXPECT_EQ(batch.values("attention_mask"), (std::vector<int64_t>{1, 1, 1, 1, 1, 1, 0, 0}));
}

TEST(Seq2Seq, ClassificationReadsTheStateAtTheLastToken) {
  const ModelConfig config = load_config(t5_folder());
  const Graph graph =
      build_model(config, {.batch = 2, .length = 4, .head = Head::classification, .labels = 3});
  const TokenRow rows[] = {{kLong, {}}, {kShort, {}}};
  const Batch batch(config, graph, rows, 4);
  EXPECT_EQ(batch.values("decoder_input_ids"), (std::vector<int64_t>{0, 7, 3, 9, 0, 5, 1, 0}));
  EXPECT_EQ(batch.values("pool_mask"), (std::vector<int64_t>{0, 0, 0, 1, 0, 1, 0, 0}));
  EXPECT_EQ(graph.type(graph.output("logits")).shape, (Shape{2, 3}));
  for (const char* name :
       {"transformer.shared.weight", "transformer.decoder.final_layer_norm.weight",
        "classification_head.dense.bias", "classification_head.out_proj.weight"})
    EXPECT_NE(graph.find_param(name), nullptr) << name;
}

// A mean-pooled task, or the encoder's own class, has no decoder.
TEST(Seq2Seq, TheEncoderAlone) {
  ModelConfig config = load_config(t5_folder());
  const Graph pooled = build_model(config, {.head = Head::mean_pooled, .labels = 2});
  EXPECT_EQ(pooled.find_param("decoder.final_layer_norm.weight"), nullptr);
  EXPECT_NE(build_model(config, {}).find_param("decoder.final_layer_norm.weight"), nullptr);
  config.architecture = "T5EncoderModel";
  EXPECT_EQ(head_of(config), Head::none);
  EXPECT_EQ(build_model(config, {}).find_param("decoder.final_layer_norm.weight"), nullptr);
}

TEST(Seq2Seq, WhatThereIsNotIsRefused) {
  const ModelConfig t5 = load_config(t5_folder());
  const ModelConfig bert = load_config(golden_dir() + "/models/bert_cls");
  const struct {
    const ModelConfig& config;
    ModelOptions options;
    const char* message;
  } cases[] = {
      {bert, {.part = Part::decoder}, "models of type bert are one stack"},
      {bert, {.head = Head::seq2seq_lm}, "no head for conditional generation"},
      {t5, {.head = Head::causal_lm}, "no head for masked or causal language modelling"},
      {t5, {.part = Part::decoder, .head = Head::mean_pooled}, "stands on the encoder"},
      {t5, {.part = Part::encoder, .head = Head::seq2seq_lm}, "built without a head"},
  };
  for (const auto& c : cases) {
    const std::string error = error_of<UsageError>([&] { build_model(c.config, c.options); });
    EXPECT_NE(error.find(c.message), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace graft::testing
