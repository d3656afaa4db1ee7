// Every method that a model takes generates with the cache what it generates without one: on a
// decoder, and on an encoder with a decoder.
#include <gtest/gtest.h>

#include <map>

#include "autograd/evaluate.h"
#include "autograd/passes/cheap_forms.h"
#include "core/error.h"
#include "models/batch.h"
#include "models/family.h"
#include "models/generation/generate.h"
#include "peft/method.h"
#include "tests/support/golden.h"
#include "tests/support/peft_case.h"

namespace graft::testing {
namespace {

using Tokens = std::vector<int64_t>;

// What a method misses in a LLaMA.
const std::map<std::string, const char*> kRefused = {{"unipelt", "is a mean over all tokens"},
                                                     {"bitfit", "bias"},
                                                     {"lst", "reads the result of rms_norm"}};

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const peft::Method& m : peft::all_methods()) names.emplace_back(m.name);
  return names;
}

using Case = std::tuple<const char*, std::string>;  // model, method

class MethodsGenerate : public ::testing::TestWithParam<Case> {
 protected:
  MethodsGenerate()
      : config_(load_config(golden_dir() + "/models/" + std::get<0>(GetParam()))),
        two_stacks_(config_.family->decode != nullptr),
        head_(two_stacks_ ? Head::seq2seq_lm : Head::causal_lm),
        method_(peft::find_method(std::get<1>(GetParam()))),
        set_(peft::complete_config(method_, small_settings(std::get<1>(GetParam())))),
        front_{peft::virtual_tokens(method_, set_), peft::position_shift(method_, set_)} {}

  Graph base(const ModelOptions& o) const { return build_model(config_, o); }
  peft::Adapted adapted(ModelOptions o) const {
    o.length += front_.virtual_tokens;
    return peft::apply(base(o), method_, set_);
  }

  // Parameters at which the adapter matters.
  void start() {
    const peft::Adapted a = adapted({.length = 4, .head = head_});
    fill_store(a, config_.folder, store_);
    disturb(a.graph, store_, 0.1F);
  }

  // The whole text again for each token.
  Tokens without_cache(Tokens text, int64_t n) {
    Tokens fresh;
    for (int64_t i = 0; i < n; ++i) {
      const auto T = static_cast<int64_t>(text.size());
      // The decoder reads its start token and what it has said; the last label is not read.
      Tokens said = fresh;
      said.push_back(0);
      const Graph graph =
          adapted({.length = T, .target_length = i + 1, .head = head_, .last_logits = true}).graph;
      Inputs inputs;
      for (const std::string& name : graph.input_names())
        inputs[name] = Tensor(DType::i64, graph.type(graph.input(name)).shape);
      const TokenRow row{.ids = text, .target = said};
      fill_inputs(config_, {&row, 1}, T, front_, [&](const std::string& name) {
        return inputs.contains(name) ? &inputs.at(name) : nullptr;
      });
      fresh.push_back(argmax(evaluate(graph, inputs, store_).outputs.at("logits").span<float>()));
      if (!two_stacks_) text.push_back(fresh.back());
    }
    return fresh;
  }

  ModelConfig config_;
  bool two_stacks_;
  Head head_;
  const peft::Method& method_;
  Json set_;
  InFront front_;
  ParamStore store_;
};

TEST_P(MethodsGenerate, TheCacheChangesNothing) {
  try {
    start();
  } catch (const UsageError& e) {
    const auto refused = kRefused.find(std::get<1>(GetParam()));
    ASSERT_NE(refused, kRefused.end()) << e.what();
    EXPECT_NE(std::string(e.what()).find(refused->second), std::string::npos) << e.what();
    return;
  }
  EXPECT_FALSE(kRefused.contains(std::get<1>(GetParam()))) << "is listed as refused";
  DecodingSession session(
      config_, store_,
      {.build = [this](const ModelOptions& o) { return base(o); },
       .adapt = [this](const Graph& g) { return cheap_forms(peft::apply(g, method_, set_).graph); },
       .virtual_tokens = front_.virtual_tokens,
       .first_position = front_.positions});
  const std::vector<Tokens> prompts = {{1, 15, 40, 9, 22}, {1, 33}};
  constexpr int64_t kNew = 5;
  const auto got = generate(session, prompts, {.max_new_tokens = kNew});
  for (size_t r = 0; r < prompts.size(); ++r)
    EXPECT_EQ(got[r], without_cache(prompts[r], kNew)) << "row " << r;
}

// What it would attend to is in no cache.
TEST(MethodGeneration, ALadderRefusesACache) {
  const Graph base = build_model(
      load_config(golden_dir() + "/models/opt"),
      {.head = Head::causal_lm, .cache = {.use = CacheOptions::Use::extend, .capacity = 16}});
  try {
    peft::apply(base, peft::find_method("lst"), small_settings("lst"));
    FAIL() << "is not refused";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("keys and values of the 16 tokens"), std::string::npos)
        << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, MethodsGenerate,
                         ::testing::Combine(::testing::Values("llama", "t5_gated"),
                                            ::testing::ValuesIn(method_names())),
                         [](const auto& row) {
                           std::string name =
                               std::string(std::get<0>(row.param)) + "_" + std::get<1>(row.param);
                           for (char& c : name) {
                             if (c == '+') c = 'p';
                           }
                           return name;
                         });

}  // namespace
}  // namespace graft::testing
