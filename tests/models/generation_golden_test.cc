// Greedy generation against transformers, with and without the cache.
#include <gtest/gtest.h>

#include <cstdio>

#include "autograd/evaluate.h"
#include "core/safetensors.h"
#include "models/batch.h"
#include "models/family.h"
#include "models/generation/generate.h"
#include "models/weights.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

using Tokens = std::vector<int64_t>;

// The visible tokens of each row.
std::vector<Tokens> prompts_of(const SafeTensors& data, const std::string& name) {
  const Tensor &ids = data.tensor(name + "/in/input_ids"),
               &mask = data.tensor(name + "/in/attention_mask");
  const int64_t T = ids.shape()[1];
  std::vector<Tokens> prompts(static_cast<size_t>(ids.shape()[0]));
  for (int64_t i = 0; i < ids.elements(); ++i) {
    if (mask.data<int64_t>()[i] != 0)
      prompts[static_cast<size_t>(i / T)].push_back(ids.data<int64_t>()[i]);
  }
  return prompts;
}

// The whole text through the model again for each token, a row at a time.
Tokens without_cache(const ModelConfig& config, ParamStore& store, const Tokens& prompt,
                     int64_t n) {
  const bool two_stacks = config.family->decode != nullptr;
  Tokens text = two_stacks ? Tokens{config.decoder_start_id} : prompt, fresh;
  for (int64_t i = 0; i < n; ++i) {
    const Tokens& given = two_stacks ? prompt : text;
    const auto T = static_cast<int64_t>(given.size()), D = static_cast<int64_t>(text.size());
    const Graph graph = build_model(config, {.length = T,
                                             .target_length = two_stacks ? D : 0,
                                             .head = head_of(config),
                                             .last_logits = true});
    Inputs inputs;
    for (const std::string& name : graph.input_names())
      inputs[name] = Tensor(DType::i64, graph.type(graph.input(name)).shape);
    const TokenRow row{given, {}};
    fill_inputs(config, {&row, 1}, T, {}, [&](const std::string& name) {
      return inputs.contains(name) ? &inputs.at(name) : nullptr;
    });
    if (two_stacks) inputs["decoder_input_ids"] = Tensor::from({1, D}, text);
    const Tensor logits = evaluate(graph, inputs, store).outputs.at("logits");
    text.push_back(argmax(logits.span<float>()));
    fresh.push_back(text.back());
  }
  return fresh;
}

// The new tokens of each row; the reference pads a row behind its end.
std::vector<Tokens> until_ends(const Json& rows, const Tokens& eos) {
  std::vector<Tokens> all;
  for (const Json& row : rows) {
    const auto ids = row.get<Tokens>();
    const auto end = std::ranges::find_first_of(ids, eos);
    all.emplace_back(ids.begin(), end == ids.end() ? end : end + 1);
  }
  return all;
}

TEST(GoldenGeneration, GreedyTokens) {
  const std::string dir = golden_dir() + "/models/";
  size_t cases = 0;
  const Json index = parse_json_file(dir + "index.json");
  for (const Json& m : index.at("models")) {
    const std::string folder = dir + m.at("name").get<std::string>();
    const Json golden = parse_json_file(folder + "/golden.json");
    for (const Json& c : golden.at("cases")) {
      if (!c.contains("generation")) continue;
      const auto name = c.at("name").get<std::string>();
      SCOPED_TRACE(folder + " " + name);
      const ModelConfig config = load_config(folder);
      const SafeTensors data = SafeTensors::open(folder + "/golden.safetensors");
      ParamStore store;
      load_parameters(folder, build_model(config, {.head = head_of(config)}), store);
      DecodingSession session(
          config, store, {.build = [&](const ModelOptions& o) { return build_model(config, o); }});
      const Json& g = c.at("generation");
      const auto n = g.at("new_tokens").get<int64_t>();
      const std::vector<Tokens> want = until_ends(g.at("ids"), config.eos_ids),
                                prompts = prompts_of(data, name);
      EXPECT_EQ(generate(session, prompts, {.max_new_tokens = n, .eos_ids = config.eos_ids}), want);
      for (size_t r = 0; r < prompts.size(); ++r) {
        const auto count = static_cast<int64_t>(want[r].size());
        EXPECT_EQ(without_cache(config, store, prompts[r], count), want[r]) << "row " << r;
      }
      const Json& stop = g.at("with_eos");
      const Tokens eos = {stop.at("eos_token_id").get<int64_t>()};
      EXPECT_EQ(generate(session, prompts, {.max_new_tokens = n, .eos_ids = eos}),
                until_ends(stop.at("ids"), eos));
      ++cases;
    }
  }
  EXPECT_GT(cases, 0u);
  std::printf("golden generation: %zu cases, 0 not supported\n", cases);
}

}  // namespace
}  // namespace graft::testing
