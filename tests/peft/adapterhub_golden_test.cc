// Bottleneck adapters of AdapterHub, read from its own files: logits, loss, gradients, counts,
// AdamW steps.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/planner.h"
#include "core/safetensors.h"
#include "models/encoder.h"
#include "nn/optimizer.h"
#include "peft/method.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

const std::set<std::string> kUnsupported = {
    "adapter_plus",     "average",     "direft",      "dora",   "fusion",
    "fusion_static",    "houlsby_inv", "ia3",         "lora",   "lora_all",
    "lora_gated",       "loreft",      "mam",         "noreft", "parallel_batch",
    "pfeiffer_gelu_ln", "prefix",      "prefix_flat", "prompt", "stack",
    "unipelt",          "vera"};

// AdapterHub's name of a parameter: the adapter is called "ad" there.
std::string hub_name(std::string name) {
  if (const size_t at = name.find("parameters.default."); at != std::string::npos) {
    name.replace(at, 19, "parameters.ad.");
  }
  if (const size_t at = name.find(".adapters.default."); at != std::string::npos)
    name.replace(at, 18, ".adapters.ad.");
  return name;
}

void check(const std::string& base_dir, const std::string& folder, const Json& c) {
  SCOPED_TRACE(folder);
  const ModelConfig model = load_config(base_dir + "/base");
  const SafeTensors batch = SafeTensors::open(base_dir + "/batch.safetensors"),
                    data = SafeTensors::open(folder + "/tensors.safetensors");
  const Json hub = parse_json_file(folder + "/ad/adapter_config.json").at("config");
  const bool phm = hub.at("phm_layer") == true;
  const char* name = phm ? (hub.at("mh_adapter") == true ? "compacter" : "compacter++")
                     : hub.at("is_parallel") == true ? "parallel"
                     : hub.at("mh_adapter") == true  ? "houlsby"
                                                     : "pfeiffer";
  Json config = {{"modules_to_save", {"classifier"}}};
  for (const char* key :
       {"reduction_factor", "non_linearity", "scaling", "leave_out", "init_weights"})
    config[key] = hub.at(key);

  if (phm) {
    for (const char* key : {"phm_dim", "phm_rank"}) config[key] = hub.at(key);
  }
  const Tensor &ids = batch.tensor("input_ids"), &mask = batch.tensor("attention_mask"),
               &labels = batch.tensor("labels");
  const int64_t B = ids.shape()[0], T = ids.shape()[1];
  const Graph base = build_encoder(model, {.batch = B, .length = T, .head = Head::classification});
  const peft::Adapted adapted = peft::apply(base, peft::find_method(name), config);
  ParamStore store;
  load_parameters(base_dir + "/base", adapted.graph, store);
  peft::initialize(adapted, store, 0);
  const SafeTensors adapter = SafeTensors::open(folder + "/ad/adapter.safetensors");
  for (const Param& p : adapted.graph.params()) {
    if (!p.trainable) continue;
    const std::string key = hub_name(p.name);
    store.set(p.name, (adapter.contains(key) ? adapter.tensor(key) : store.get(p.name))
                          .reshaped(p.type.shape)
                          .clone());
  }
  EXPECT_EQ(peft::trainable_count(adapted.graph), c.at("trainable_parameters").get<int64_t>());

  Builder b(cheap_forms(adapted.graph));
  const Value loss = ops::cross_entropy(b, b.graph().output("logits"),
                                        b.input("labels", DType::i64, labels.shape()));
  b.output("loss", loss);
  const auto gradients = gradient(b, loss);
  for (const auto& [n, g] : gradients) b.output("grad/" + n, g);
  const Json& w = c.at("adamw");
  ParamGroup group{{}, {.lr = w.at("lr").get<double>()}, w.value("weight_decay", 0.0)};
  for (const auto& [n, g] : gradients) group.params.push_back(n);
  add_optimizer(b, gradients, {.kind = "adamw", .eps = w.at("eps").get<double>()}, {group}, 0);
  const Graph step = b.finish();
  store.initialize(step, 0);
  Executor e(std::make_shared<const Program>(plan(step)), store);
  const Inputs inputs = {
      {"input_ids", ids},
      {"attention_mask", mask},
      {"labels", labels},
      {"token_type_ids", Tensor(DType::i64, ids.shape())},
      {"position_ids", Tensor::from(ids.shape(), position_ids(model, ids.span<int64_t>(), B, T))}};
  for (const std::string& n : step.input_names()) e.set_input(n, inputs.at(n));

  const double rtol = c.at("rtol").get<double>();
  auto expect = [&](const Tensor& got, const std::string& key) {
    ASSERT_TRUE(data.contains(key)) << key;
    EXPECT_EQ(mismatch(got.reshaped(data.tensor(key).shape()), data.tensor(key), rtol,
                       c.at("atol").value(key, 2e-5)),
              "")
        << key;
  };
  const Json& losses = c.at("losses");
  for (size_t i = 0; i + 1 < losses.size(); ++i) {
    e.run();
    EXPECT_NEAR(e.output("loss").data<float>()[0], losses[i].get<double>(),
                c.at("losses_atol").get<double>())
        << "step " << i;
    if (i > 0) continue;
    expect(e.output("logits"), "logits");
    expect(e.output("loss"), "loss");
    for (const auto& [n, g] : gradients) expect(e.output("grad/" + n), "grad/" + hub_name(n));
  }
  for (const auto& [n, g] : gradients) expect(store.get(n), "final/" + hub_name(n));
}

TEST(GoldenAdapterHub, BottleneckAdapters) {
  const std::string dir = golden_dir() + "/adapters/";
  size_t cases = 0, missing = 0;
  for (const char* base : {"bert", "roberta"}) {
    const std::string base_dir = dir + base;
    const Json file = parse_json_file(base_dir + "/cases.json");
    for (const Json& c : file.at("cases")) {
      const auto name = c.at("name").get<std::string>();
      if (kUnsupported.contains(name)) {
        ++missing;
        continue;
      }
      check(base_dir, base_dir + "/" + name, c);
      ++cases;
    }
  }
  EXPECT_GT(cases, 0u);
  std::printf("golden adapters: %zu cases, %zu not supported\n", cases, missing);
}

}  // namespace
}  // namespace graft::testing
