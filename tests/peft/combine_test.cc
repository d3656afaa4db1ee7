// Several adapters in one model.
#include "peft/combine.h"

#include <gtest/gtest.h>

#include "autograd/evaluate.h"
#include "core/error.h"
#include "core/random.h"
#include "models/model.h"
#include "models/weights.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

class Combine : public ::testing::Test {
 protected:
  Combine()
      : model_(load_config(golden_dir() + "/models/bert_cls")),
        base_(build_model(model_, {.batch = 1, .length = 5, .head = Head::classification})) {
    load_parameters(model_.folder, base_, params_);
    for (const std::string& name : base_.input_names()) {
      Tensor t(DType::i64, {1, 5});
      for (int64_t i = 0; i < 5; ++i) t.data<int64_t>()[i] = name == "token_type_ids" ? 0 : 1 + i;
      inputs_[name] = t;
    }
  }

  // A method with a trained state that does something.
  peft::WeightedAdapter adapter(const char* method, uint64_t seed, double weight) const {
    peft::Adapted a = peft::apply(base_, peft::find_method(method), Json::object());
    peft::WeightedAdapter w{a.graph, params_, weight};
    peft::initialize(a, w.params, seed);
    for (const Param& p : a.graph.params()) {
      if (!p.trainable) continue;
      Tensor t = w.params.get(p.name).clone();
      const RandomStream random(seed, hash_name(p.name));
      for (int64_t i = 0; i < t.elements(); ++i)
        t.data<float>()[i] += 0.05f * static_cast<float>(random.normal(static_cast<uint64_t>(i)));
      w.params.set(p.name, t);
    }
    return w;
  }

  Tensor logits(const Graph& g, const ParamStore& s) const {
    return evaluate(g, inputs_, s).outputs.at("logits");
  }
  Tensor combined(const std::vector<peft::WeightedAdapter>& adapters) const {
    const peft::Combination c = peft::combine(base_, params_, adapters);
    const Folded merged = fold_parameters(c.graph, c.params);
    Tensor result = logits(c.graph, c.params);
    EXPECT_EQ(mismatch(logits(merged.graph, merged.params), result, 1e-5, 1e-5), "");
    EXPECT_EQ(merged.graph.nodes().size(), base_.nodes().size());
    return result;
  }

  ModelConfig model_;
  Graph base_;
  ParamStore params_;
  Inputs inputs_;
};

TEST_F(Combine, OneIsItself) {
  const peft::WeightedAdapter lora = adapter("lora", 1, 1);
  EXPECT_EQ(mismatch(combined({lora}), logits(lora.adapted, lora.params), 1e-5, 1e-5), "");
}

TEST_F(Combine, HalvesOfOneAreItself) {
  const peft::WeightedAdapter half = adapter("dora", 1, 0.5);
  EXPECT_EQ(mismatch(combined({half, half}), logits(half.adapted, half.params), 1e-5, 1e-5), "");
}

TEST_F(Combine, NothingIsTheBase) {
  EXPECT_EQ(mismatch(combined({adapter("lora", 1, 0), adapter("bitfit", 2, 0)}),
                     logits(base_, params_), 1e-5, 1e-5),
            "");
}

// Methods that change different weights stand side by side: as one applied to the other's merge.
TEST_F(Combine, DifferentWeightsAddUp) {
  const peft::WeightedAdapter lora = adapter("lora", 1, 1), norms = adapter("ln_tuning", 2, 1);
  ParamStore both = lora.params;
  for (const Param& p : norms.adapted.params()) {
    if (p.trainable) both.set(p.name, norms.params.get(p.name));
  }
  EXPECT_EQ(mismatch(combined({lora, norms}), logits(lora.adapted, both), 1e-5, 1e-5), "");
}

TEST_F(Combine, WhatCannotMergeIsRefused) {
  const std::vector<peft::WeightedAdapter> adapters = {adapter("lora", 1, 1),
                                                       adapter("houlsby", 2, 1)};
  EXPECT_THROW(peft::combine(base_, params_, adapters), GraphError);
}

// DistilBERT's head has two layers, of which the first fits any labels.
TEST(CombineHeads, AHeadForOtherLabelsComesAsAWhole) {
  const ModelConfig model = load_config(golden_dir() + "/models/distilbert_cls");
  const auto labels = static_cast<int64_t>(model.labels.size()) + 1;
  const Graph base =
      build_model(model, {.batch = 1, .length = 5, .head = Head::classification, .labels = labels});
  ParamStore params;
  load_parameters(model.folder, base, params);
  ASSERT_TRUE(params.contains("pre_classifier.weight"));
  ASSERT_FALSE(params.contains("classifier.weight"));
  std::vector<peft::WeightedAdapter> adapters;
  for (uint64_t seed : {1, 2}) {
    const peft::Adapted a =
        peft::apply(base, peft::find_method("lora"), {{"modules_to_save", {"classifier"}}});
    adapters.push_back({a.graph, params, 0.5});
    peft::WeightedAdapter& w = adapters.back();
    peft::initialize(a, w.params, seed);
    for (const char* layer : {"pre_classifier.weight", "pre_classifier.bias"})
      w.params.set(layer, draw(Init::normal(1), a.graph.param(layer).type, seed, layer));
  }
  const peft::Combination c = peft::combine(base, params, adapters);
  for (const char* name : {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight"}) {
    EXPECT_EQ(mismatch(c.params.stored(name), adapters[0].params.stored(name), 0, 0), "") << name;
    EXPECT_FALSE(c.params.contains(fmt::format("{}@0", name))) << name;
  }
}

}  // namespace
}  // namespace graft::testing
