// Decoders under adapters: weights that files hold as [in, out], fused projections, tied tables.
#include <gtest/gtest.h>

#include <algorithm>

#include "autograd/memory_report.h"
#include "autograd/op.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fold.h"
#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "models/model.h"
#include "models/weights.h"
#include "peft/method.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

using Names = std::vector<std::string>;

std::string folder(const char* model) { return golden_dir() + "/models/" + model; }

Graph model(const char* name) {
  const ModelConfig config = load_config(folder(name));
  return build_model(config, {.batch = 2, .length = 8, .head = head_of(config)});
}

peft::Adapted adapted(const Graph& base, const char* method, const Json& given) {
  return peft::apply(base, peft::find_method(method), given);
}

int64_t count(const Graph& graph, std::string_view op) {
  return std::ranges::count_if(graph.nodes(), [&](const Node& n) { return n.op->name == op; });
}

// Names of the trained parameters of the first block, without what stands in front.
Names of_first_block(const Graph& graph, const std::string& block) {
  Names names;
  for (const Param& p : graph.params()) {
    if (const size_t at = p.name.find(block); p.trainable && at != std::string::npos)
      names.push_back(p.name.substr(at + block.size()));
  }
  std::ranges::sort(names);
  return names;
}

TEST(Decoders, TargetsFollowRoles) {
  struct Case {
    const char *model, *block, *method;
    Names trained;
  };
  const Case cases[] = {
      {"gpt2", "h.0.", "lora", {"attn.c_attn.lora_A.weight", "attn.c_attn.lora_B.weight"}},
      {"gpt2", "h.0.", "ia3", {"attn.c_attn.ia3_l", "mlp.c_proj.ia3_l"}},
      {"gpt_neox",
       "layers.0.",
       "ia3",
       {"attention.query_key_value.ia3_l", "mlp.dense_4h_to_h.ia3_l"}},
      {"opt",
       "layers.0.",
       "ia3",
       {"fc2.ia3_l", "self_attn.k_proj.ia3_l", "self_attn.v_proj.ia3_l"}},
      {"llama",
       "layers.0.",
       "ia3",
       {"mlp.down_proj.ia3_l", "self_attn.k_proj.ia3_l", "self_attn.v_proj.ia3_l"}},
      // A norm behind the sublayer does not hide which one it is.
      {"gemma2",
       "layers.0.",
       "houlsby",
       {"mlp.adapters.default.adapter_down.0.bias", "mlp.adapters.default.adapter_down.0.weight",
        "mlp.adapters.default.adapter_up.bias", "mlp.adapters.default.adapter_up.weight",
        "self_attn.adapters.default.adapter_down.0.bias",
        "self_attn.adapters.default.adapter_down.0.weight",
        "self_attn.adapters.default.adapter_up.bias",
        "self_attn.adapters.default.adapter_up.weight"}},
  };
  for (const Case& c : cases) {
    const peft::Adapted a = adapted(model(c.model), c.method, Json::object());
    EXPECT_EQ(of_first_block(a.graph, c.block), c.trained) << c.model << " " << c.method;
  }
}

TEST(Decoders, AllLinearLeavesTheHeadAlone) {
  for (const char* name : {"gpt2", "llama", "gpt_neox"}) {
    const peft::Adapted a = adapted(model(name), "lora", {{"target_modules", "all-linear"}});
    for (const Param& p : a.graph.params()) {
      EXPECT_FALSE(p.trainable && p.name.find("layers.") == std::string::npos &&
                   p.name.find(".h.") == std::string::npos)
          << p.name;
    }
  }
}

// The update is formed beside the weight as [out, in]; what the product reads is turned once.
TEST(Decoders, ATransposedWeightIsTurnedOnceAndMergedAsTheFileHoldsIt) {
  const Graph base = model("gpt2");
  const peft::Adapted a = adapted(base, "lora", {{"r", 2}});
  EXPECT_EQ(count(cheap_forms(a.graph), "transpose"), count(base, "transpose"));
  ParamStore store;
  load_parameters(folder("gpt2"), base, store);
  peft::initialize(a, store, 1);
  const Folded merged = fold_parameters(a.graph, store);
  EXPECT_FALSE(merged.merged.empty());
  for (const std::string& name : merged.merged) {
    EXPECT_TRUE(name.ends_with("attn.c_attn.weight")) << name;
    // B begins as zeros, so nothing but the layout could change.
    EXPECT_EQ(mismatch(merged.params.get(name), store.get(name), 0, 0), "") << name;
  }
}

TEST(Decoders, ATiedHeadThatIsSavedGetsAWeightOfItsOwn) {
  const Graph base = model("gpt2");
  const peft::Adapted a = adapted(base, "lora", {{"modules_to_save", {"lm_head"}}});
  EXPECT_TRUE(a.graph.param("lm_head.weight").trainable);
  EXPECT_FALSE(a.graph.param("transformer.wte.weight").trainable);
  ParamStore store;
  load_parameters(folder("gpt2"), base, store);
  peft::initialize(a, store, 1);
  EXPECT_EQ(mismatch(store.get("lm_head.weight"), store.get("transformer.wte.weight"), 0, 0), "");
  EXPECT_NE(store.get("lm_head.weight").bytes(), store.get("transformer.wte.weight").bytes());
}

// The file's rows are read to fill the panels and are not memory of a run.
TEST(Decoders, FrozenWeightsOfGpt2StandInMemoryOnce) {
  Graph base = model("gpt2");
  size_t bytes = 0;
  for (const Param& p : base.params()) bytes += p.type.bytes();
  const Program plain = plan(base), packed = plan(optimize(base));
  EXPECT_EQ(memory_parts(plain).weights, bytes);
  const auto kept = [](const Program& p) {
    return std::ranges::count_if(p.buffers, [](const Program::Buffer& b) {
      return b.kind == Program::Kind::param && b.name.ends_with(".c_fc.weight");
    });
  };
  EXPECT_EQ(kept(plain), 0);
  EXPECT_EQ(kept(packed), 0);
  // And the table of tokens, which is the head's weight.
  EXPECT_EQ(count(packed.graph, "pack"), count(packed.graph, "transpose") + 1);
}

}  // namespace
}  // namespace graft::testing
