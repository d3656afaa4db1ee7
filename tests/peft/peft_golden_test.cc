// Adapters of Hugging Face PEFT, read from its own files: logits, loss, gradients, counts, five
// AdamW steps, merged, disabled.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fold.h"
#include "autograd/planner.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "nn/optimizer.h"
#include "peft/adapter_files.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

// Methods of the golden set that have no counterpart here.
const std::set<std::string> kTypes = {"ADAMSS",
                                      "ADAPTION_PROMPT",
                                      "CARTRIDGE",
                                      "CPT",
                                      "SHADOW",
                                      "BEFT",
                                      "BOFT",
                                      "C3A",
                                      "DEFT",
                                      "DELORA",
                                      "FOURIERFT",
                                      "FROD",
                                      "GLORA",
                                      "GRALORA",
                                      "HIRA",
                                      "HRA",
                                      "LILY",
                                      "LOHA",
                                      "LOKR",
                                      "MISS",
                                      "MULTITASK_PROMPT_TUNING",
                                      "OFT",
                                      "OSF",
                                      "PEANUT",
                                      "POLY",
                                      "PSOFT",
                                      "PVERA",
                                      "P_TUNING",
                                      "RANDLORA",
                                      "ROAD",
                                      "SHIRA",
                                      "SUPERTUNING",
                                      "TINYLORA",
                                      "TRAINABLE_TOKENS",
                                      "UNILORA",
                                      "VBLORA",
                                      "VERA",
                                      "WAVEFT"};

const std::set<std::string> kCases = {
    "multi_lora",              // several adapters in one batch
    "lora_layer_replication",  // another model than the base
    "lora_alora",              // active from certain tokens on
    // The reference wraps `shared`, which no stack of its T5 reads: its gradients are 0, and
    // merging changes the logits by 2.4. Here every use of the table follows.
    "t5/lora_emb"};

struct Run {
  const std::string& base_dir;
  std::string folder;
  const Json& c;
  const ModelConfig& model;
  SafeTensors batch, data;
  peft::AdapterConfig config;
  bool ejected = false;

  int64_t virtual_tokens() const { return peft::virtual_tokens(*config.method, config.config); }
  bool seq2seq() const { return head_of(model) == Head::seq2seq_lm; }
  bool prefix() const { return config.method->peft_type == "PREFIX_TUNING"; }

  Graph base(int64_t v) const {
    const Shape s = batch.tensor("input_ids").shape();
    return build_model(model, {.batch = s[0],
                               .length = s[1] + v,
                               .target_length = seq2seq() ? batch.tensor("labels").shape()[1] : 0,
                               .head = head_of(model)});
  }
  bool causal() const { return head_of(model) == Head::causal_lm; }

  // Virtual tokens in front: any id, visible, type 0; positions from 0 (prompts) or from the prefix
  // length on.
  Inputs inputs(int64_t v, bool behind_prefix) const {
    const Tensor &ids = batch.tensor("input_ids"), &mask = batch.tensor("attention_mask");
    const int64_t B = ids.shape()[0], T = ids.shape()[1];
    Tensor wide_ids(DType::i64, {B, T + v}), wide_mask = wide_ids.clone(), types = wide_ids.clone();
    for (int64_t i = 0; i < B * (T + v); ++i) {
      const int64_t r = i / (T + v), t = i % (T + v) - v;
      wide_ids.data<int64_t>()[i] = t < 0 ? model.pad_id + 1 : ids.data<int64_t>()[r * T + t];
      wide_mask.data<int64_t>()[i] = t < 0 ? 1 : mask.data<int64_t>()[r * T + t];
    }
    std::vector<int64_t> positions =
        position_ids(model, wide_ids.span<int64_t>(), wide_mask.span<int64_t>(), B, T + v);
    if (v > 0) {  // the reference gives embeddings, not ids: every position counts
      for (int64_t i = 0; i < B * (T + v); ++i) {
        positions[static_cast<size_t>(i)] =
            i % (T + v) + (model.model_type == "roberta" ? model.pad_id + 1 : 0);
      }
    }
    if (behind_prefix) {
      for (int64_t& p : positions) p += config.config.at("num_virtual_tokens").get<int64_t>();
    }
    Inputs all{{"input_ids", wide_ids},
               {"attention_mask", wide_mask},
               {"token_type_ids", types},
               {"position_ids", Tensor::from(wide_ids.shape(), positions)},
               {"labels", causal() ? next_tokens(wide_ids.shape()) : batch.tensor("labels")}};
    if (seq2seq()) {
      const Tensor& labels = batch.tensor("labels");
      all["decoder_input_ids"] = Tensor::from(
          labels.shape(), shifted_right(model, labels.span<int64_t>(), B, labels.shape()[1]));
    }
    return all;
  }

  // Each position's label is the one behind it; virtual tokens and padding have none.
  Tensor next_tokens(const Shape& wide) const {
    const Tensor& labels = batch.tensor("labels");
    const int64_t T = labels.shape()[1], v = wide[1] - T;
    Tensor next(DType::i64, wide);
    for (int64_t i = 0; i < next.elements(); ++i) {
      const int64_t r = i / (T + v), t = i % (T + v) + 1 - v;
      next.data<int64_t>()[i] = t >= 0 && t < T ? labels.data<int64_t>()[r * T + t] : -100;
    }
    return next;
  }
};

// Padded positions of one stack are stored as 0; a decoder's behind an encoder are whole.
Tensor masked(const Run& run, const Tensor& logits, const Tensor& mask) {
  if (logits.shape().rank() != 3 || run.seq2seq()) return logits;
  Tensor y = logits.clone();
  const int64_t V = logits.shape()[2];
  for (int64_t i = 0; i < mask.elements(); ++i) {
    if (mask.data<int64_t>()[i] == 0) std::fill_n(y.data<float>() + i * V, V, 0.0f);
  }
  return y;
}

Value add_loss(Builder& b, const Tensor& labels) {
  Value logits = b.graph().output("logits");
  const int64_t rows = labels.elements();
  logits = ops::reshape(b, logits, {rows, b.shape(logits)[-1]});
  const Value task = ops::cross_entropy(
      b, logits, ops::reshape(b, b.input("labels", DType::i64, labels.shape()), {rows}));
  const Value loss = peft::add_penalties(b, task);
  b.output("loss", loss);
  return loss;
}

std::map<std::string, Tensor> execute(const Graph& graph, const Inputs& inputs, ParamStore& store) {
  Executor executor(std::make_shared<const Program>(plan(graph)), store);
  executor.set_poison(true);
  for (const std::string& n : graph.input_names()) executor.set_input(n, inputs.at(n));
  executor.run();
  std::map<std::string, Tensor> out;
  for (const auto& [name, v] : graph.outputs()) out[name] = executor.output(name).clone();
  return out;
}

// With padding as the data has it.
Tensor logits(const Run& run, const Graph& graph, const Inputs& inputs, ParamStore& store) {
  return masked(run, execute(graph, inputs, store).at("logits"), inputs.at("attention_mask"));
}

// The tensors file names a parameter by its key in the adapter file, or as PEFT's model does.
std::string golden_key(const Run& run, const std::string& kind, const Param& p) {
  const Json& trainable = run.c.at("trainable");
  std::string key = peft::file_key(p, *run.config.method);
  for (const Json& t : trainable) {  // the wrapper adds segments; compare without them
    std::string name = t.at("file_key").is_null() ? t.at("name").get<std::string>()
                                                  : t.at("file_key").get<std::string>();
    std::string plain = name;
    for (const char* segment :
         {".base_layer", ".default", ".original_module", ".modules_to_save"}) {
      for (size_t at; (at = plain.find(segment)) != std::string::npos;)
        plain.erase(at, std::string(segment).size());
    }
    if (plain == key || plain == p.name || plain == "base_model.model." + p.name ||
        (key == "prompt_embeddings" && plain == "prompt_encoder.embedding.weight")) {
      return kind + "/" + name;
    }
  }
  return {};
}

// The file of a projected prefix holds the prefix itself, not the generator, and the golden data
// keep the generator only as it is after the five steps. So the count is checked with the
// generator, the numbers with the prefix that the file holds.
void check(Run run) {
  SCOPED_TRACE(run.folder);
  if (run.config.raw.value("prefix_projection", false)) {
    Json generated = run.config.config;
    generated["prefix_projection"] = true;
    EXPECT_EQ(peft::trainable_count(
                  peft::apply(run.base(run.virtual_tokens()), *run.config.method, generated).graph),
              run.c.at("trainable_parameters").get<int64_t>());
    run.ejected = true;
  }
  const double rtol = run.c.at("rtol").get<double>();
  const Json& atol = run.c.at("atol");
  const int64_t in_front = run.virtual_tokens();
  const Inputs inputs = run.inputs(in_front, run.prefix());
  auto expect = [&](const Tensor& got, const std::string& key, double slack = 0) {
    if (!run.data.contains(key)) return;
    const double a = atol.contains(key) ? atol.at(key).get<double>() : slack;
    EXPECT_EQ(mismatch(got, run.data.tensor(key), rtol, a), "") << key;
  };
  const Graph base = run.base(in_front);
  ParamStore store;
  load_parameters(run.base_dir + "/base", base, store);
  const peft::Adapted adapted = peft::apply(base, *run.config.method, run.config.config);
  const peft::Adapted training =
      peft::apply(base, *run.config.method, run.config.config, {.training = true});
  peft::initialize(adapted, store, 1);
  // Starts that change the base (PiSSA, OLoRA): the residual is what the reference computed.
  for (const auto& [key, tensor] : run.data.tensors()) {
    const std::string prefix = "extra/base_model.model.", suffix = ".base_layer.weight";
    if (!key.starts_with(prefix) || !key.ends_with(suffix)) continue;
    const std::string name =
        key.substr(prefix.size(), key.size() - prefix.size() - suffix.size()) + ".weight";
    EXPECT_EQ(mismatch(store.get(name), tensor, 1e-4, 2e-5), "") << key;
    store.set(name, tensor);
  }
  peft::load_adapter(run.folder + "/adapter", run.config, adapted.graph, store);
  if (!run.ejected) {
    EXPECT_EQ(peft::trainable_count(adapted.graph),
              run.c.at("trainable_parameters").get<int64_t>());
  }

  Builder b(cheap_forms(training.graph));
  const Value loss = add_loss(b, inputs.at("labels"));
  const auto grads = gradient(b, loss);
  for (const auto& [name, g] : grads) b.output("grad/" + name, g);
  const Graph joint = b.finish();
  const auto out = execute(joint, inputs, store);
  expect(masked(run, out.at("logits"), inputs.at("attention_mask")), "logits");
  expect(out.at("loss"), "loss");
  size_t compared = 0;
  for (const auto& [name, g] : grads) {
    if (run.ejected && joint.param(name).adapter == "default") continue;
    const std::string key = golden_key(run, "grad", joint.param(name));
    compared += !key.empty() && run.data.contains(key);
    expect(out.at("grad/" + name), key);
  }
  if (!run.ejected) {
    EXPECT_EQ(compared, run.c.at("trainable").size());
  }

  // Without the cheap forms: the definition.
  Builder plain(adapted.graph);
  add_loss(plain, inputs.at("labels"));
  expect(logits(run, plain.finish(), inputs, store), "logits");
  if (run.data.contains("disabled_logits")) {
    // The reference leaves trained biases and a start's residual in the base model; only saved
    // modules go back. Nothing stands in front.
    ParamStore disabled;
    const Graph alone = run.base(0);
    load_parameters(run.base_dir + "/base", alone, disabled);
    const Json& saved = run.config.config.at("modules_to_save");
    const auto names =
        saved.is_null() ? std::vector<std::string>{} : saved.get<std::vector<std::string>>();
    for (const Param& p : alone.params()) {
      const bool restored =
          peft::inside_saved(p.name, names) || run.config.method->peft_type == "LN_TUNING";
      if (!restored) disabled.set(p.name, store.get(p.name));
    }
    expect(logits(run, alone, run.inputs(0, false), disabled), "disabled_logits", 1e-5);
  }
  if (run.data.contains("merged_logits") && run.c.at("mergeable").get<bool>()) {
    Folded merged = fold_parameters(adapted.graph, store);
    expect(logits(run, merged.graph, inputs, merged.params), "merged_logits", 2e-5);
  }

  if (run.ejected) return;
  // Five steps of AdamW on one batch: the whole step is one program.
  const Json& w = run.c.at("adamw");
  Builder train(cheap_forms(training.graph));
  const auto step_grads = gradient(train, add_loss(train, inputs.at("labels")));
  ParamGroup group{{}, {.lr = w.at("lr").get<double>()}, w.value("weight_decay", 0.0)};
  for (const auto& [name, g] : step_grads) group.params.push_back(name);
  OptimizerConfig optimizer{.kind = "adamw", .eps = w.at("eps").get<double>()};
  if (w.contains("betas"))
    optimizer.beta1 = w.at("betas")[0].get<double>(),
    optimizer.beta2 = w.at("betas")[1].get<double>();
  const auto updated = add_optimizer(train, step_grads, optimizer, {group}, 0);
  if (run.c.contains("nonzero_lora_E_after_step"))
    peft::finish_step(train, training, step_grads, updated);
  const Graph program = train.finish();
  for (const Param& p : adapted.graph.params()) {
    if (p.trainable) store.set(p.name, store.get(p.name).clone());
  }
  store.initialize(program, 0);
  Executor executor(std::make_shared<const Program>(plan(program)), store);
  for (const std::string& n : program.input_names()) executor.set_input(n, inputs.at(n));
  const Json& losses = run.c.at("losses");
  for (size_t i = 0; i + 1 < losses.size(); ++i) {
    executor.run();
    EXPECT_NEAR(executor.output("loss").data<float>()[0], losses[i].get<double>(),
                run.c.at("losses_atol").is_array() ? run.c.at("losses_atol")[i].get<double>()
                                                   : run.c.at("losses_atol").get<double>())
        << "step " << i;
    if (!run.c.contains("nonzero_lora_E_after_step")) continue;
    for (const auto& [name, count] : run.c.at("nonzero_lora_E_after_step")[i].items()) {
      const std::string prefix = "base_model.model.", suffix = ".default";
      const Tensor e =
          store.get(name.substr(prefix.size(), name.size() - prefix.size() - suffix.size()));
      const auto values = e.span<float>();
      EXPECT_EQ(static_cast<int64_t>(values.size()) - std::ranges::count(values, 0.0f),
                count.get<int64_t>())
          << name << " after step " << i;
    }
  }
  for (const auto& [name, g] : step_grads)
    expect(store.get(name), golden_key(run, "final", program.param(name)));
}

TEST(GoldenPeft, FilesLogitsGradientsStepsMerge) {
  const std::string dir = golden_dir() + "/peft/";
  size_t cases = 0, missing = 0;
  const Json index = parse_json_file(dir + "index.json");
  for (const Json& entry : index.at("bases")) {
    const auto base = entry.get<std::string>();
    const std::string base_dir = dir + base;
    const Json file = parse_json_file(base_dir + "/cases.json");
    const Json& all = file.at("cases");
    const ModelConfig model = load_config(base_dir + "/base");
    for (const Json& c : all) {
      const auto type = c.at("peft_type").get<std::string>();
      const auto name = c.at("name").get<std::string>();
      if (kTypes.contains(type) || kCases.contains(name) || kCases.contains(base + "/" + name)) {
        ++missing;
        continue;
      }
      const std::string folder = base_dir + "/" + name;
      try {
        check({base_dir, folder, c, model, SafeTensors::open(base_dir + "/batch.safetensors"),
               SafeTensors::open(folder + "/tensors.safetensors"),
               peft::read_adapter_config(folder + "/adapter")});
      } catch (const Error& e) {
        ADD_FAILURE() << folder << ": " << e.what();
      }
      ++cases;
    }
  }
  EXPECT_GT(cases, 0u);
  std::printf("golden peft: %zu cases, %zu not supported\n", cases, missing);
}

}  // namespace
}  // namespace graft::testing
