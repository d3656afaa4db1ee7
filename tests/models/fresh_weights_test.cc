// Models from nothing: every parameter of every family has a start, as transformers draws it.
#include "models/fresh_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/param_store.h"
#include "models/family.h"
#include "models/model.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

Graph fresh(const ModelConfig& config) {
  ModelOptions o{.length = 4, .head = head_of(config)};
  return with_fresh_weights(build_model(config, o), config);
}

TEST(FreshWeights, EveryParameterOfEveryFamilyIsDrawn) {
  size_t models = 0;
  const std::string dir = golden_dir() + "/models/";
  const Json index = parse_json_file(dir + "index.json");
  for (const Json& m : index.at("models")) {
    const ModelConfig config = load_config(dir + m.at("name").get<std::string>());
    if (config.family->kind == Family::Kind::image) continue;
    const Graph graph = fresh(config);
    ParamStore store;
    store.initialize(graph, 1);
    EXPECT_NO_THROW(store.check(graph)) << config.folder;
    for (const Param& p : graph.params()) {
      if (p.type.shape.rank() != 1) continue;
      EXPECT_EQ(p.init.kind, Init::Kind::constant) << config.folder << " " << p.name;
      EXPECT_TRUE(!p.name.ends_with("bias") || p.init == Init::zeros()) << p.name;
    }
    ++models;
  }
  EXPECT_GT(models, 0u);
}

struct Start {
  const char *model, *param;
  std::function<Init(const ModelConfig&)> init;
};

Init normal(double sd) { return Init::normal(sd); }
double root(int64_t n) { return std::sqrt(static_cast<double>(n)); }

// Of transformers' _init_weights.
TEST(FreshWeights, AsTransformersDraws) {
  auto range = [](const ModelConfig& c) { return normal(c.raw.value("initializer_range", 0.02)); };
  const Start starts[] = {
      {"llama_tied", "model.embed_tokens.weight", range},
      {"llama_tied", "model.layers.0.mlp.down_proj.weight", range},
      {"llama_tied", "model.norm.weight", [](const ModelConfig&) { return Init::ones(); }},
      {"gemma", "model.norm.weight", [](const ModelConfig&) { return Init::zeros(); }},
      {"gpt2", "transformer.h.0.attn.c_attn.weight", range},
      {"gpt2", "transformer.h.0.attn.c_attn.bias",
       [](const ModelConfig&) { return Init::zeros(); }},
      {"gpt2", "transformer.h.0.mlp.c_proj.weight",
       [](const ModelConfig& c) {
         return normal(c.raw.value("initializer_range", 0.02) / root(2 * c.layers));
       }},
      {"t5", "shared.weight", [](const ModelConfig&) { return normal(1); }},
      {"t5", "encoder.block.0.layer.0.SelfAttention.q.weight",
       [](const ModelConfig& c) { return normal(1 / root(c.hidden * c.head_size)); }},
      {"t5", "encoder.block.0.layer.0.SelfAttention.o.weight",
       [](const ModelConfig& c) { return normal(1 / root(c.heads * c.head_size)); }},
  };
  for (const Start& s : starts) {
    const ModelConfig config = load_config(golden_dir() + "/models/" + s.model);
    const Init want = s.init(config), got = fresh(config).param(s.param).init;
    EXPECT_EQ(got.kind, want.kind) << s.model << " " << s.param;
    EXPECT_DOUBLE_EQ(got.a, want.a) << s.model << " " << s.param;
    EXPECT_DOUBLE_EQ(got.b, want.b) << s.model << " " << s.param;
  }
}

}  // namespace
}  // namespace graft::testing
