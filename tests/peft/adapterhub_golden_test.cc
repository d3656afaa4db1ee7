// Adapters of AdapterHub, read from its own files: logits, loss, gradients, counts,
// AdamW steps.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fold.h"
#include "autograd/planner.h"
#include "core/safetensors.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "nn/optimizer.h"
#include "peft/method.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

// Compositions of several adapters, and methods that graft does not have.
const std::set<std::string> kUnsupported = {"adapter_plus",  "average",        "direft", "fusion",
                                            "fusion_static", "houlsby_inv",    "loreft", "noreft",
                                            "vera",          "parallel_batch", "stack"};

// A method and its hyperparameters, from AdapterHub's configuration.
struct Setup {
  std::string method;
  Json config;
};

void copy(const Json& from, Json& to,
          const std::vector<std::pair<const char*, const char*>>& keys) {
  for (const auto& [theirs, ours] : keys) to[ours] = from.at(theirs);
}

Setup bottleneck(const Json& hub) {
  const bool phm = hub.at("phm_layer") == true, twice = hub.at("mh_adapter") == true;
  Setup s{phm                             ? (twice ? "compacter" : "compacter++")
          : hub.at("is_parallel") == true ? "parallel"
          : twice                         ? "houlsby"
                                          : "pfeiffer",
          Json::object()};
  for (const char* key : {"reduction_factor", "non_linearity", "scaling", "leave_out",
                          "init_weights", "ln_before", "ln_after", "use_gating", "dropout"}) {
    s.config[key] = hub.at(key);
  }
  if (phm) copy(hub, s.config, {{"phm_dim", "phm_dim"}, {"phm_rank", "phm_rank"}});
  return s;
}

Setup low_rank(const Json& hub) {
  Json targets = Json::array();
  for (const auto& [letter, module] : {std::pair{"q", "query"}, {"k", "key"}, {"v", "value"}}) {
    const Json& chosen = hub.at("attn_matrices");
    if (std::ranges::find(chosen, Json(letter)) != chosen.end()) targets.push_back(module);
  }
  if (hub.at("intermediate_lora") == true) targets.push_back("intermediate.dense");
  const Json exclude = {"attention.output.dense"};
  if (hub.at("output_lora") == true) targets.push_back("output.dense");
  if (hub.at("composition_mode") == "scale") {  // on the outputs, biases included
    return {"ia3", {{"target_modules", targets}, {"feedforward_modules", Json::array()}}};
  }
  Setup s{"lora", {{"target_modules", targets}}};
  s.config["dora_rule"] = "adapterhub";
  if (hub.at("output_lora") == true) s.config["exclude_modules"] = exclude;
  copy(hub, s.config,
       {{"r", "r"},
        {"alpha", "lora_alpha"},
        {"dropout", "lora_dropout"},
        {"use_gating", "use_gating"},
        {"use_dora", "use_dora"}});
  return s;
}

Setup prefix(const Json& hub) {
  Setup s{hub.at("flat") == true ? "prefix_tuning" : "prefix_mlp", Json::object()};
  copy(hub, s.config, {{"prefix_length", "num_virtual_tokens"}, {"use_gating", "use_gating"}});
  if (hub.at("flat") == false) s.config["encoder_hidden_size"] = hub.at("bottleneck_size");
  return s;
}

Setup setup_of(const Json& hub) {
  if (!hub.contains("architecture") || hub.at("architecture").is_null()) return bottleneck(hub);
  const auto architecture = hub.at("architecture").get<std::string>();
  if (architecture == "lora") return low_rank(hub);
  if (architecture == "prefix_tuning") return prefix(hub);
  if (architecture == "prompt_tuning") {
    return {"prompt_tuning",
            {{"num_virtual_tokens", hub.at("prompt_length")},
             {"prompt_tuning_init", hub.at("prompt_init")},
             {"insert_at", "embedding.output"}}};
  }
  // A union: what its parts say, under the names that the hybrid knows.
  const Json& parts = hub.at("configs");
  Setup s{parts.size() == 2 ? "mam" : "unipelt", Json::object()};
  const Json known = peft::complete_config(peft::find_method(s.method), Json::object());
  for (const Json& part : parts) {
    const Json config = setup_of(part).config;
    for (const auto& [key, value] : config.items()) {
      if (known.contains(key)) s.config[key] = value;
    }
  }
  return s;
}

// AdapterHub's name of a parameter: the adapter is called "ad" there.
std::string hub_name(std::string name) {
  static const std::pair<const char*, const char*> kRenamed[] = {
      {"shared_parameters.default.", "shared_parameters.ad."},
      {".adapters.default.", ".adapters.ad."},
      {".lora_A.weight", ".loras.ad.lora_A"},
      {".lora_B.weight", ".loras.ad.lora_B"},
      {".lora_magnitude_vector", ".loras.ad.m.weight"},
      {".ia3_l", ".loras.ad.lora_B"},
      {".prefix_gate.", ".attention.self.prefix_tuning.prefix_gates.ad."},
      {"prompt_encoder.embedding.", "PREFIX.wte."},
      {"prompt_encoder.transform.", "PREFIX.control_trans."},
  };
  for (const auto& [ours, theirs] : kRenamed) {
    if (const size_t at = name.find(ours); at != std::string::npos) {
      name.replace(at, std::string(ours).size(), theirs);
    }
  }
  for (const char* gate : {".query.gate.", ".value.gate."}) {
    if (const size_t at = name.find(gate); at != std::string::npos)
      name.insert(at + 6, ".loras.ad");
  }
  return name;
}

// Parameters of the whole model stand below its name there.
std::string hub_name(const std::string& ours, const std::string& method, const std::string& model) {
  std::string name = hub_name(ours);
  const std::string pool =
      model + ".encoder.layer.0.attention.self.prefix_tuning.pool.prefix_tunings.ad.self_prefix";
  if (name.starts_with("PREFIX.")) return pool + name.substr(6);
  if (name != "prompt_embeddings") return name;
  return method == "prompt_tuning"
             ? model + ".prompt_tuning.prompt_tunings.ad.prompt_embedding.weight"
             : pool + ".control_trans";
}

// Virtual tokens in front: any id, visible, of type 0; the positions are those of the text.
Inputs padded_inputs(const ModelConfig& model, const SafeTensors& batch, int64_t v) {
  const Tensor &ids = batch.tensor("input_ids"), &mask = batch.tensor("attention_mask");
  const int64_t B = ids.shape()[0], T = ids.shape()[1];
  const std::vector<int64_t> text =
      position_ids(model, ids.span<int64_t>(), mask.span<int64_t>(), B, T);
  Tensor wide(DType::i64, {B, T + v}), visible = wide.clone(), positions = wide.clone();
  for (int64_t i = 0; i < B * (T + v); ++i) {
    const int64_t t = i % (T + v) - v, from = i / (T + v) * T + t;
    wide.data<int64_t>()[i] = t < 0 ? 0 : ids.data<int64_t>()[from];
    visible.data<int64_t>()[i] = t < 0 ? 1 : mask.data<int64_t>()[from];
    positions.data<int64_t>()[i] = t < 0 ? 0 : text[static_cast<size_t>(from)];
  }
  return {{"input_ids", wide},
          {"attention_mask", visible},
          {"labels", batch.tensor("labels")},
          {"token_type_ids", Tensor(DType::i64, wide.shape())},
          {"position_ids", positions}};
}

void check(const std::string& base_dir, const std::string& folder, const Json& c) {
  SCOPED_TRACE(folder);
  const ModelConfig model = load_config(base_dir + "/base");
  const SafeTensors batch = SafeTensors::open(base_dir + "/batch.safetensors"),
                    data = SafeTensors::open(folder + "/tensors.safetensors");
  const Json hub = parse_json_file(folder + "/ad/adapter_config.json").at("config");
  Setup setup = setup_of(hub);
  setup.config["modules_to_save"] = {"classifier"};
  const peft::Method& method = peft::find_method(setup.method);
  const int64_t v = peft::virtual_tokens(method, peft::complete_config(method, setup.config));
  const Tensor &ids = batch.tensor("input_ids"), &labels = batch.tensor("labels");
  const int64_t B = ids.shape()[0], T = ids.shape()[1];
  const Graph base =
      build_model(model, {.batch = B, .length = T + v, .head = Head::classification});
  const peft::Adapted adapted = peft::apply(base, method, setup.config, {.training = true});
  auto named = [&](const std::string& ours) {
    return hub_name(ours, setup.method, model.model_type);
  };
  ParamStore store;
  load_parameters(base_dir + "/base", adapted.graph, store);
  peft::initialize(adapted, store, 0);
  const SafeTensors adapter = SafeTensors::open(folder + "/ad/adapter.safetensors");
  for (const Param& p : adapted.graph.params()) {
    if (!p.trainable) continue;
    const std::string key = named(p.name);
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
  const Inputs inputs = padded_inputs(model, batch, v);
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
    for (const auto& [n, g] : gradients) expect(e.output("grad/" + n), "grad/" + named(n));
  }
  if (c.value("merged_equals_adapter", false)) {
    EXPECT_NO_THROW(fold_parameters(adapted.graph, store));
  }
  for (const auto& [n, g] : gradients) expect(store.get(n), "final/" + named(n));
}

TEST(GoldenAdapterHub, LogitsGradientsSteps) {
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
