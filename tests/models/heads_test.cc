// The classes that stand on a family's body: parameters under transformers' names, results.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.h"
#include "models/model.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

struct Case {
  const char* model;
  Head head;
  const char* body;                 // in front of the body's parameters
  std::vector<std::string> params;  // of the head
};

TEST(Heads, ParametersHaveTheNamesOfTransformers) {
  using enum Head;
  const std::vector<std::string> score = {"score.weight"}, biased = {"score.bias", "score.weight"},
                                 classifier = {"classifier.bias", "classifier.weight"},
                                 answers = {"qa_outputs.bias", "qa_outputs.weight"};
  const Case cases[] = {
      {"gpt2", classification, "transformer.", score},
      {"gpt2", tokens, "transformer.", classifier},
      {"gpt2", question_answering, "transformer.", answers},
      {"opt", classification, "model.decoder.", score},
      {"opt", question_answering, "model.decoder.", answers},
      {"gpt_neox", classification, "gpt_neox.", score},
      {"gpt_neox", tokens, "gpt_neox.", classifier},
      {"gpt_neox", question_answering, "gpt_neox.", answers},
      {"llama", classification, "model.", score},
      {"llama", tokens, "model.", biased},
      {"llama", question_answering, "transformer.", answers},
      {"mistral", question_answering, "model.", answers},
      {"qwen3", question_answering, "transformer.", answers},
      {"gemma", tokens, "model.", biased},
      {"bert", tokens, "bert.", classifier},
      {"bert", question_answering, "bert.", answers},
      {"roberta_cls", tokens, "roberta.", classifier},
      {"distilbert_cls", question_answering, "distilbert.", answers},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(fmt::format("{} {}", c.model, static_cast<int>(c.head)));
    const ModelConfig config = load_config(golden_dir() + "/models/" + c.model);
    const Graph graph = build_model(config, {.batch = 2, .length = 5, .head = c.head, .labels = 3});
    std::vector<std::string> params;
    for (const Param& p : graph.params()) {
      if (!p.name.starts_with(c.body)) params.push_back(p.name);
    }
    std::ranges::sort(params);
    EXPECT_EQ(params, c.params);
    const Shape want = c.head == classification ? Shape{2, 3}
                       : c.head == tokens       ? Shape{2, 5, 3}
                                                : Shape{2, 5, 2};
    EXPECT_EQ(graph.type(graph.output("logits")).shape, want);
    if (c.head != question_answering) continue;
    for (const char* name : {"start_logits", "end_logits"})
      EXPECT_EQ(graph.type(graph.output(name)).shape, (Shape{2, 5}));
  }
}

TEST(Heads, AClassThatAFamilyLacksIsRefused) {
  const std::pair<const char*, Head> cases[] = {{"opt", Head::tokens},
                                                {"gemma", Head::question_answering},
                                                {"t5", Head::question_answering},
                                                {"t5", Head::causal_lm},
                                                {"vit_cls", Head::tokens},
                                                {"deberta_v2_cls", Head::masked_lm}};
  for (const auto& [model, head] : cases) {
    const ModelConfig config = load_config(golden_dir() + "/models/" + model);
    const std::string error =
        error_of<UsageError>([&, head = head] { build_model(config, {.head = head}); });
    EXPECT_TRUE(
        error.starts_with(fmt::format("models of type {} have no head for", config.model_type)))
        << error;
  }
}

}  // namespace
}  // namespace graft::testing
