// Sampling and beam search against their definitions.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "autograd/evaluate.h"
#include "models/batch.h"
#include "models/family.h"
#include "models/fresh_weights.h"
#include "models/generation/generate.h"
#include "models/weights.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

using Tokens = std::vector<int64_t>;

// ---- sampling

struct Choice {
  const char* name;
  SamplingOptions options;
  std::vector<double> probabilities;  // of tokens 0 to 3
};

TEST(Sampler, DrawsFromTheDistributionThatTheOptionsSay) {
  // Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1.
  const double p[] = {0.4, 0.3, 0.2, 0.1};
  const double root[] = {std::sqrt(0.4), std::sqrt(0.3), std::sqrt(0.2), std::sqrt(0.1)};
  const double roots = std::accumulate(std::begin(root), std::end(root), 0.0);
  const Choice choices[] = {
      {"greedy", {}, {1, 0, 0, 0}},
      {"temperature 1", {.temperature = 1}, {0.4, 0.3, 0.2, 0.1}},
      {"temperature 2",
       {.temperature = 2},
       {root[0] / roots, root[1] / roots, root[2] / roots, root[3] / roots}},
      {"top 2", {.temperature = 1, .top_k = 2}, {4.0 / 7, 3.0 / 7, 0, 0}},
      {"more than there are", {.temperature = 1, .top_k = 9}, {0.4, 0.3, 0.2, 0.1}},
      {"nucleus inside the second", {.temperature = 1, .top_p = 0.5}, {4.0 / 7, 3.0 / 7, 0, 0}},
      {"nucleus below the first", {.temperature = 1, .top_p = 0.1}, {1, 0, 0, 0}},
      {"nucleus of the top 3",
       {.temperature = 1, .top_k = 3, .top_p = 0.7},
       {4.0 / 7, 3.0 / 7, 0, 0}},
  };
  constexpr int64_t kDraws = 20000;
  for (const Choice& c : choices) {
    SamplingOptions options = c.options;
    options.seed = 7;
    Sampler sampler(options);
    std::vector<double> counts(4);
    for (int64_t i = 0; i < kDraws; ++i) {
      // Another order than that of the vocabulary, so that ranks matter; token t is p[t].
      std::vector<float> logits;
      for (const double x : p) logits.push_back(static_cast<float>(std::log(x) + 3));
      ++counts[static_cast<size_t>(sampler.next(logits, {}, 0, i))];
    }
    for (size_t t = 0; t < 4; ++t) {
      const double want = c.probabilities[t];
      // Five standard deviations of a binomial count.
      const double room = 5 * std::sqrt(want * (1 - want) / kDraws);
      EXPECT_NEAR(counts[t] / kDraws, want, room) << c.name << ", token " << t;
    }
  }
}

TEST(Sampler, IsAFunctionOfSeedRowAndStep) {
  Sampler a({.temperature = 1, .seed = 3}), b({.temperature = 1, .seed = 3});
  int different = 0;
  for (int64_t step = 0; step < 50; ++step) {
    std::vector<float> x(100, 0.0f), y = x, z = x;
    const int64_t first = a.next(x, {}, 1, step);
    EXPECT_EQ(first, b.next(y, {}, 1, step));
    different += first != b.next(z, {}, 2, step);
  }
  EXPECT_GT(different, 40);
}

TEST(Sampler, RepetitionIsPenalizedOncePerToken) {
  std::vector<float> logits = {2, -2, 2, 0};
  const int64_t text[] = {0, 1, 1, 1};
  penalize_repetition(logits, text, 2);
  EXPECT_EQ(logits, (std::vector<float>{1, -4, 2, 0}));
}

// ---- beam search

class BeamSearchTest : public ::testing::Test {
 protected:
  BeamSearchTest()
      : config_(load_config(golden_dir() + "/models/llama")),
        session_(config_, store_,
                 {.build = [this](const ModelOptions& o) { return build_model(config_, o); }}) {
    load_parameters(config_.folder, build_model(config_, {.head = Head::causal_lm}), store_);
  }

  // Log probabilities [texts, V] of every token after texts of one length.
  std::vector<double> next(const std::vector<Tokens>& texts) {
    const auto B = static_cast<int64_t>(texts.size()), T = static_cast<int64_t>(texts[0].size());
    const Graph graph = build_model(
        config_, {.batch = B, .length = T, .head = Head::causal_lm, .last_logits = true});
    Inputs inputs;
    for (const std::string& name : graph.input_names()) inputs[name] = Tensor(DType::i64, {B, T});
    std::vector<TokenRow> rows;
    for (const Tokens& text : texts) rows.push_back({text, {}});
    fill_inputs(config_, rows, T, {}, [&](const std::string& name) {
      return inputs.contains(name) ? &inputs.at(name) : nullptr;
    });
    const Tensor logits = evaluate(graph, inputs, store_).outputs.at("logits");
    std::vector<double> log_p;
    for (int64_t r = 0; r < B; ++r) {
      const auto row = logits.span<float>().subspan(static_cast<size_t>(r * config_.vocab),
                                                    static_cast<size_t>(config_.vocab));
      double sum = 0;
      for (const float x : row) sum += std::exp(static_cast<double>(x));
      for (const float x : row) log_p.push_back(static_cast<double>(x) - std::log(sum));
    }
    return log_p;
  }

  ModelConfig config_;
  ParamStore store_;
  DecodingSession session_;
};

// As many beams as tokens see every text of two: the best of all is found, also where the greedy
// first token is not its beginning.
TEST_F(BeamSearchTest, EnoughBeamsFindTheBestText) {
  int not_greedy = 0;
  for (int64_t start = 3; start < 15; ++start) {
    const Tokens prompt = {1, start, start + 20};
    std::vector<Tokens> texts;
    for (int64_t a = 0; a < config_.vocab; ++a) {
      texts.push_back(prompt);
      texts.back().push_back(a);
    }
    const std::vector<double> first = next({prompt}), second = next(texts);
    double best = -1e9;
    Tokens want;
    for (size_t i = 0; i < second.size(); ++i) {
      const auto a = static_cast<int64_t>(i) / config_.vocab,
                 b = static_cast<int64_t>(i) % config_.vocab;
      const double score = first[static_cast<size_t>(a)] + second[i];
      if (score > best) best = score, want = {a, b};
    }
    EXPECT_EQ(generate(session_, {prompt}, {.max_new_tokens = 2, .beams = config_.vocab})[0], want);
    not_greedy += generate(session_, {prompt}, {.max_new_tokens = 2})[0] != want;
  }
  EXPECT_GT(not_greedy, 0);
}

TEST_F(BeamSearchTest, PromptsOfABatchDoNotMeet) {
  const std::vector<Tokens> prompts = {{1, 5, 9, 40, 41}, {1, 7}, {8, 30, 60}};
  const GenerationOptions options = {.max_new_tokens = 9, .eos_ids = {11, 77}, .beams = 4};
  const auto together = generate(session_, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i)
    EXPECT_EQ(together[i], generate(session_, {prompts[i]}, options)[0]);
}

TEST_F(BeamSearchTest, WrongOptionsAreNamed) {
  const auto error = [&](const std::vector<Tokens>& prompts, const GenerationOptions& o) {
    return error_of<UsageError>([&] { generate(session_, prompts, o); });
  };
  const std::vector<Tokens> good = {{1, 2}};
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(error(good, {.max_new_tokens = 0}), "new tokens should be 1 or more"));
  EXPECT_TRUE(has(error(good, {.beams = 0}), "beams should be 1 or more"));
  EXPECT_TRUE(has(error(good, {.sampling = {.temperature = -1}}), "temperature"));
  EXPECT_TRUE(has(error(good, {.sampling = {.top_p = 0}}), "top-p"));
  EXPECT_TRUE(has(error(good, {.sampling = {.temperature = 1}, .beams = 2}), "does not sample"));
  EXPECT_TRUE(has(error({{}}, {}), "no tokens"));
  EXPECT_TRUE(
      has(error(good, {.max_new_tokens = 1000}), "do not fit into the model's 40 positions"));
}

// ---- weights in 16 bits

// What a model writes does not depend on the width in which its weights lie, to the last bit.
TEST(Decoding, StoredTypesDoNotChangeTheLogits) {
  for (const char* name : {"llama", "llama_tied", "gpt2", "gemma2", "t5"}) {
    SCOPED_TRACE(name);
    const ModelConfig config = load_config(golden_dir() + "/models/" + name);
    const Head head = config.family->decode != nullptr ? Head::seq2seq_lm : Head::causal_lm;
    const Graph graph =
        with_fresh_weights(build_model(config, {.length = 3, .head = head}), config);
    ParamStore drawn, narrow, wide;
    drawn.initialize(graph, 1);
    for (const std::string& p : drawn.names()) {
      const Tensor bf16 = drawn.get(p).cast(DType::bf16);
      narrow.set(p, bf16, DType::f32);
      wide.set(p, bf16.cast(DType::f32));
    }
    const auto build = [&](const ModelOptions& o) { return build_model(config, o); };
    DecodingSession a(config, narrow, {.build = build}), b(config, wide, {.build = build});
    const std::vector<Tokens> prompts = {{3, 5, 7, 9}, {11, 4}};
    const auto same = [](std::span<const float> x, std::span<const float> y) {
      return std::ranges::equal(x, y);
    };
    EXPECT_TRUE(same(a.start(prompts, 4), b.start(prompts, 4)));
    for (int64_t step = 0; step < 3; ++step) {
      const Tokens tokens = {step + 2, step + 6};
      EXPECT_TRUE(same(a.extend(tokens), b.extend(tokens))) << "step " << step;
    }
    EXPECT_LT(a.extender()->program().persistent_bytes, b.extender()->program().persistent_bytes);
  }
}

}  // namespace
}  // namespace graft::testing
