// Every method that a decoder takes generates with the cache what it generates without one.
#include <gtest/gtest.h>

#include <map>

#include "autograd/evaluate.h"
#include "autograd/passes/cheap_forms.h"
#include "core/random.h"
#include "models/batch.h"
#include "models/generation/generate.h"
#include "models/weights.h"
#include "peft/method.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

using Tokens = std::vector<int64_t>;

// What a method misses in a LLaMA.
const std::map<std::string, const char*> kRefused = {
    {"pfeiffer", "not followed by a residual and a layer norm"},
    {"unipelt", "not followed by a residual and a layer norm"},
    {"compacter++", "not followed by a residual and a layer norm"},
    {"bitfit", "bias"},
    {"lst", "is not LN(x + f(x))"}};

std::vector<const char*> method_names() {
  std::vector<const char*> names;
  for (const peft::Method& m : peft::all_methods()) names.push_back(m.name.data());
  return names;
}

class MethodGeneration : public ::testing::TestWithParam<const char*> {
 protected:
  MethodGeneration()
      : config_(load_config(golden_dir() + "/models/llama")),
        method_(peft::find_method(GetParam())),
        set_(peft::complete_config(method_, given())),
        front_{peft::virtual_tokens(method_, set_), peft::position_shift(method_, set_)} {}

  static Json given() {
    const std::string name = GetParam();
    if (name == "adalora") return {{"total_step", 10}};
    if (name.starts_with("compacter")) return {{"reduction_factor", 4}, {"phm_dim", 2}};
    if (name == "intrinsic") return {{"intrinsic_dim", 200}};
    if (name == "prompt_tuning" || name.starts_with("prefix")) return {{"num_virtual_tokens", 3}};
    return Json::object();
  }

  Graph base(const ModelOptions& o) const { return build_model(config_, o); }
  peft::Adapted adapted(ModelOptions o) const {
    o.length += front_.virtual_tokens;
    return peft::apply(base(o), method_, set_);
  }

  // Parameters at which the adapter matters.
  void fill_store() {
    const peft::Adapted a = adapted({.length = 4, .head = Head::causal_lm});
    load_parameters(config_.folder, a.graph, store_);
    peft::initialize(a, store_, 3);
    std::map<std::string, Tensor> fisher;
    for (const std::string& name : a.fisher.params)
      fisher[name] = draw(Init::uniform(0, 1), a.graph.param(name).type, 9, name);
    if (!fisher.empty()) a.fisher.start(fisher, store_);
    for (const Param& p : a.graph.params()) {
      if (!p.trainable) continue;
      Tensor t = store_.get(p.name).clone();
      const RandomStream random(5, hash_name(p.name));
      for (int64_t i = 0; i < t.elements(); ++i)
        t.data<float>()[i] += 0.1f * static_cast<float>(random.normal(static_cast<uint64_t>(i)));
      store_.set(p.name, t);
    }
  }

  // The whole text again for each token.
  Tokens without_cache(Tokens text, int64_t n) {
    Tokens fresh;
    for (int64_t i = 0; i < n; ++i) {
      const auto T = static_cast<int64_t>(text.size());
      const Graph graph =
          adapted({.length = T, .head = Head::causal_lm, .last_logits = true}).graph;
      Inputs inputs;
      for (const std::string& name : graph.input_names())
        inputs[name] = Tensor(DType::i64, graph.type(graph.input(name)).shape);
      const TokenRow row{text, {}};
      fill_inputs(config_, {&row, 1}, T, front_, [&](const std::string& name) {
        return inputs.contains(name) ? &inputs.at(name) : nullptr;
      });
      text.push_back(argmax(evaluate(graph, inputs, store_).outputs.at("logits").span<float>()));
      fresh.push_back(text.back());
    }
    return fresh;
  }

  ModelConfig config_;
  const peft::Method& method_;
  Json set_;
  InFront front_;
  ParamStore store_;
};

TEST_P(MethodGeneration, TheCacheChangesNothing) {
  try {
    fill_store();
  } catch (const UsageError& e) {
    const auto refused = kRefused.find(GetParam());
    ASSERT_NE(refused, kRefused.end()) << e.what();
    EXPECT_NE(std::string(e.what()).find(refused->second), std::string::npos) << e.what();
    return;
  }
  EXPECT_FALSE(kRefused.contains(GetParam())) << "is listed as refused";
  DecodingSession session(config_, store_,
                          {.build =
                               [this](const ModelOptions& o) {
                                 const bool begun = o.cache.use == CacheOptions::Use::extend;
                                 if (begun && front_.virtual_tokens > 0) return base(o);
                                 return cheap_forms(adapted(o).graph);
                               },
                           .virtual_tokens = front_.virtual_tokens,
                           .first_position = front_.positions});
  const std::vector<Tokens> prompts = {{1, 15, 40, 9, 22}, {1, 33}};
  constexpr int64_t kNew = 5;
  const auto got = generate(session, prompts, {.max_new_tokens = kNew});
  for (size_t r = 0; r < prompts.size(); ++r)
    EXPECT_EQ(got[r], without_cache(prompts[r], kNew)) << "row " << r;
}

INSTANTIATE_TEST_SUITE_P(Peft, MethodGeneration, ::testing::ValuesIn(method_names()),
                         [](const auto& row) {
                           std::string name = row.param;
                           for (char& c : name) {
                             if (c == '+') c = 'p';
                           }
                           return name;
                         });

}  // namespace
}  // namespace graft::testing
