// Every method on every kind of architecture: it trains there, or says why it does not. Methods
// know none of them; this is where roles and names prove enough.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "autograd/evaluate.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "core/random.h"
#include "models/model.h"
#include "models/weights.h"
#include "peft/method.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

constexpr int64_t kLength = 6;

// What a method refuses, by "MODEL METHOD".
const std::map<std::string, const char*> kRefused = {};

Inputs inputs_of(const Graph& graph, int64_t vocab) {
  Inputs inputs;
  for (const std::string& name : graph.input_names()) {
    const Type& type = graph.type(graph.input(name));
    Tensor t(type.dtype, type.shape);
    const RandomStream random(1, hash_name(name));
    for (int64_t i = 0; i < t.elements(); ++i) {
      const uint64_t bits = random.bits(static_cast<uint64_t>(i));
      if (type.dtype == DType::f32) {
        t.data<float>()[i] = static_cast<float>(bits % 1000) / 500 - 1;
      } else {
        const bool ids = name.ends_with("input_ids");
        t.data<int64_t>()[i] = ids ? static_cast<int64_t>(bits % static_cast<uint64_t>(vocab))
                               : name == "position_ids"   ? i % type.shape[1]
                               : name == "token_type_ids" ? 0
                                                          : 1;
      }
    }
    inputs[name] = t;
  }
  return inputs;
}

class Architectures : public ::testing::TestWithParam<const char*> {};

TEST_P(Architectures, EveryMethodTrainsOrSaysWhyNot) {
  const std::string folder = golden_dir() + "/models/" + GetParam();
  const ModelConfig config = load_config(folder);
  size_t trained = 0;
  for (const peft::Method& method : peft::all_methods()) {
    SCOPED_TRACE(std::string(method.name));
    const auto refused = kRefused.find(std::string(GetParam()) + " " + std::string(method.name));
    const int64_t v = peft::virtual_tokens(method, peft::complete_config(method, Json::object()));
    const Graph base = build_model(
        config,
        {.batch = 2, .length = kLength + v, .target_length = kLength, .head = head_of(config)});
    try {
      Json set = Json::object();
      if (method.name == "adalora") set["total_step"] = 10;
      if (method.name == "intrinsic") set["intrinsic_dim"] = 200;
      if (method.name == "head") set["modules_to_save"] = {"classifier", "lm_head", "shared"};
      const peft::Adapted adapted = peft::apply(base, method, set, {.training = true});
      EXPECT_GT(peft::trainable_count(adapted.graph), 0);
      ParamStore store;
      load_parameters(folder, base, store);
      Builder b(adapted.graph);
      const Value loss = ops::mean(b, ops::pow_scalar(b, b.graph().output("logits"), 2));
      for (const auto& [name, g] : gradient(b, peft::add_penalties(b, loss)))
        b.output("grad/" + name, ops::l2_norm(b, {g}));
      b.output("loss", loss);
      peft::initialize(adapted, store, 1);
      const Graph joint = b.finish();
      store.initialize(joint, 1);
      double largest = 0;
      for (const auto& [name, t] : evaluate(joint, inputs_of(joint, config.vocab), store).outputs) {
        if (!name.starts_with("grad/") && name != "loss") continue;
        EXPECT_TRUE(std::isfinite(t.data<float>()[0])) << name;
        if (name != "loss") largest = std::max(largest, static_cast<double>(t.data<float>()[0]));
      }
      EXPECT_GT(largest, 0);
      EXPECT_EQ(refused, kRefused.end()) << "is listed as refused";
      ++trained;
    } catch (const UsageError& e) {
      EXPECT_TRUE(refused != kRefused.end() &&
                  std::string(e.what()).find(refused->second) != std::string::npos)
          << e.what();
    }
  }
  EXPECT_GT(trained, 0u);
}

INSTANTIATE_TEST_SUITE_P(Models, Architectures,
                         ::testing::Values("bert_cls", "t5", "t5_gated", "deberta_v2_cls",
                                           "vit_cls"));

}  // namespace
}  // namespace graft::testing
