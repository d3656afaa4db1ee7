// Every method on every architecture: it applies and keeps its promises, or it refuses as listed;
// however much memory its step gets, it computes the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "autograd/compile.h"
#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/passes/fold.h"
#include "core/error.h"
#include "models/batch.h"
#include "models/family.h"
#include "tests/support/golden.h"
#include "tests/support/peft_case.h"
#include "train/step.h"

namespace graft::testing {
namespace {

constexpr int64_t kBatch = 2, kLength = 8, kSteps = 10;

using Models = std::vector<std::string>;  // of the golden data

Models operator+(Models a, const Models& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Query, key and value come out of one product.
const Models kFused = {"gpt2", "gpt2_scaled", "gpt_neox", "gpt_neox_serial"};
const Models kWriters =
    kFused + Models{"llama", "llama_tied", "llama_bias", "qwen2",    "qwen3", "mistral",
                    "gemma", "gemma2",     "t5",         "t5_gated", "opt",   "opt_post"};
const Models kRootMeanSquare = {"llama", "llama_tied", "llama_bias", "llama_cls", "qwen2",
                                "qwen3", "mistral",    "gemma",      "t5",        "t5_gated"};

struct Refusal {
  std::string method;
  Models models;
  const char* message;  // contains the site, where there is one
};

// What each method misses.
const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> table = {
      // Language is modelled without a new head.
      {"head", kWriters, "finds nothing to train"},
      {"bitfit",
       {"llama", "llama_tied", "llama_cls", "qwen3", "mistral", "gemma", "gemma2", "t5",
        "t5_gated"},
       "the model has no biases to train"},
      {"unipelt", kWriters + Models{"llama_cls"}, "is a mean over all tokens"},
      {"prompt_tuning", {"vit_cls"}, "the model reads no tokens"},
      {"lst", kFused, "is not a linear layer of its own"},
      {"lst", kRootMeanSquare, "reads the result of rms_norm"},
      {"lst", {"gemma2"}, "post_attention_layernorm' is not a linear layer"},
  };
  return table;
}

const char* refusal_of(const std::string& method, const std::string& model) {
  for (const Refusal& r : refusals()) {
    if (r.method == method && std::ranges::find(r.models, model) != r.models.end())
      return r.message;
  }
  return nullptr;
}

// A small model under the head that it is trained with, and a method on it.
class Pair {
 public:
  Pair(const std::string& model, const peft::Method& method)
      : config_(load_config(golden_dir() + "/models/" + model)),
        kind_(usual_task(config_)),
        method_(method),
        settings_(training_config(config_, method, small_settings(std::string(method.name)), kSteps,
                                  kind_)),
        front_{peft::virtual_tokens(method, settings_), peft::position_shift(method, settings_)},
        base_(base(config_, false)) {}

  // Throws UsageError where the method does not fit.
  void apply() {
    adapted_ = adapt(base_, false);
    if (peft::trainable_count(adapted_.graph) == 0)
      throw UsageError("{} finds nothing to train in a {} model", method_.name, config_.model_type);
    fill_store(adapted_, config_.folder, store_);
    for (const Param& p : adapted_.graph.params()) {
      if (p.trainable) store_.own(p.name);
    }
  }

  void expect_identity() const {
    EXPECT_EQ(mismatch(logits(adapted_.graph, store_), logits(base_, store_), 1e-5, 3e-5), "");
  }

  void expect_merging(bool merges) {
    ParamStore moved = store_;
    disturb(adapted_.graph, moved, 0.05F);
    if (!merges) {
      EXPECT_THROW(fold_parameters(adapted_.graph, moved), GraphError);
      return;
    }
    const Folded merged = fold_parameters(adapted_.graph, moved);
    EXPECT_EQ(
        mismatch(logits(merged.graph, merged.params), logits(adapted_.graph, moved), 1e-4, 1e-4),
        "");
    EXPECT_EQ(merged.graph.nodes().size(), base_.nodes().size());
  }

  // The model's dropout hides none of the method's places: at a rate that drops nothing it changes
  // nothing.
  void expect_the_same_with_dropout() const {
    ParamStore moved = store_;
    disturb(adapted_.graph, moved, 0.05F);
    const peft::Adapted plain = adapt(base_, true), dropping = adapt(dropping_base(1e-12), true);
    EXPECT_TRUE(dropping.graph.input("rng").valid());
    EXPECT_EQ(peft::trainable_count(dropping.graph), peft::trainable_count(plain.graph));
    EXPECT_EQ(mismatch(logits(dropping.graph, moved), logits(plain.graph, moved), 1e-5, 3e-5), "");
  }

  // A batch seen over and over.
  void expect_training() {
    const peft::Adapted training = adapt(base_, true);
    const MicroBatch whole{training, 1};
    const auto program = compile(training_step(
        {&whole, 1}, kind_, {.steps = kSteps, .weight_decay = 0}, method_.learning_rate));
    store_.initialize(program->graph, 3);
    std::map<std::string, Tensor> before;
    for (const Param& p : adapted_.graph.params()) before[p.name] = store_.get(p.name).clone();
    Executor e(program, store_);
    for (const auto& [name, t] : inputs_of(program->graph)) e.set_input(name, t);
    std::vector<float> losses;
    for (int64_t step = 0; step < kSteps; ++step) {
      if (e.has_input("rng")) e.input("rng").data<int64_t>()[1] = step;
      e.run();
      losses.push_back(e.output("loss").data<float>()[0]);
    }
    EXPECT_LT(losses.back(), losses.front());
    for (const Param& p : adapted_.graph.params()) {
      const Tensor &was = before.at(p.name), &is = store_.get(p.name);
      EXPECT_EQ(std::memcmp(was.bytes(), is.bytes(), was.size_bytes()) != 0, p.trainable) << p.name;
    }
  }

  // Two micro-batches, two steps, dropout of the model, and of the method where it has it. Without
  // clipping a parameter is updated while others still wait for their gradients.
  void expect_the_same_bits_under_every_plan(double max_grad_norm) {
    const MicroBatch half{adapt(dropping_base(0.1), true), 0.5};
    const std::vector<MicroBatch> parts{half, half};
    const Graph step = training_step(
        parts, kind_, {.steps = kSteps, .max_grad_norm = max_grad_norm}, method_.learning_rate);
    store_.initialize(step, 3);
    const auto none = compile(step, {.recompute = Recompute::none}),
               least = compile(step, {.recompute = Recompute::automatic, .budget = 1});
    EXPECT_EQ(none->recompute_flops, 0);
    const size_t middle = (none->peak_bytes() + least->peak_bytes()) / 2;
    const auto between = compile(step, {.recompute = Recompute::automatic, .budget = middle});
    EXPECT_LE(between->peak_bytes(), std::max(middle, least->peak_bytes()));
    const std::vector<Tensor> want = results_of(none);
    for (const auto& program : {compile(step), between, least}) {
      const std::vector<Tensor> got = results_of(program);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_EQ(std::memcmp(got[i].bytes(), want[i].bytes(), want[i].size_bytes()), 0) << i;
    }
  }

  const std::string& model_type() const { return config_.model_type; }

 private:
  Graph base(const ModelConfig& config, bool dropout) const {
    return build_model(config, {.batch = kBatch,
                                .length = kLength + front_.virtual_tokens,
                                .target_length = kLength,
                                .head = training_head(config, kind_),
                                .dropout = dropout});
  }

  Graph dropping_base(double rate) const {
    ModelConfig config = config_;
    config.dropout = {rate, rate, rate, rate, rate, rate, rate};
    return base(config, true);
  }

  // What two steps give and leave.
  std::vector<Tensor> results_of(const std::shared_ptr<const Program>& program) const {
    ParamStore store = store_;
    for (const auto& [name, v] : program->graph.assignments()) store.own(name);
    Executor e(program, store);
    e.set_poison(true);
    for (const auto& [name, t] : inputs_of(program->graph)) e.set_input(name, t);
    std::vector<Tensor> results;
    for (int64_t step = 0; step < 2; ++step) {
      if (e.has_input("rng")) e.input("rng").data<int64_t>()[1] = step;
      e.run();
      for (const auto& [name, v] : program->graph.outputs())
        results.push_back(e.output(name).clone());
    }
    for (const auto& [name, v] : program->graph.assignments())
      results.push_back(store.get(name).clone());
    EXPECT_EQ(e.high_water_bytes(), program->arena_bytes);
    return results;
  }

  peft::Adapted adapt(const Graph& base, bool training) const {
    return peft::apply(base, method_, settings_,
                       {.model = config_.model_type, .training = training});
  }

  Tensor logits(const Graph& graph, const ParamStore& store) const {
    return evaluate(graph, inputs_of(graph), store).outputs.at("logits");
  }

  // Rows of different lengths, each of its own tokens.
  Inputs inputs_of(const Graph& graph) const {
    Inputs inputs;
    for (const std::string& name : graph.input_names()) {
      const Type& type = graph.type(graph.input(name));
      Tensor& t = inputs[name] = Tensor(type.dtype, type.shape);
      if (t.dtype() == DType::f32) {
        t = draw(Init::uniform(0, 1), type, 7, name);
      } else if (name.starts_with("labels")) {
        for (int64_t i = 0; i < t.elements(); ++i) t.data<int64_t>()[i] = i % 3;
      }
    }
    if (config_.family->kind == Family::Kind::image) return inputs;
    const std::vector<int64_t> ids = {2, 11, 12, 13, 14, 15, 16, 3, 21, 22, 23, 24, 25};
    const std::span<const int64_t> all = ids, first = all.first(8), second = all.subspan(8);
    const TokenRow rows[] = {{first, {}, first}, {second, {}, second}};
    const size_t parts = inputs.contains("labels/1") ? 2 : 1;
    for (size_t k = 0; k < parts; ++k) {
      fill_inputs(config_, rows, kLength, front_, [&](const std::string& name) {
        const auto it = inputs.find(name + part_suffix(k, parts));
        return it == inputs.end() ? nullptr : &it->second;
      });
    }
    return inputs;
  }

  ModelConfig config_;
  TaskKind kind_;
  const peft::Method& method_;
  Json settings_;
  InFront front_;
  Graph base_;
  peft::Adapted adapted_;
  ParamStore store_;
};

std::vector<std::string> names_of_models() {
  std::vector<std::string> names;
  const Json index = parse_json_file(golden_dir() + "/models/index.json");
  for (const Json& m : index.at("models")) names.push_back(m.at("name"));
  EXPECT_FALSE(names.empty());
  return names;
}

class Architectures : public ::testing::TestWithParam<const peft::Method*> {};

TEST_P(Architectures, TakeTheMethodOrAreListed) {
  const std::string method(GetParam()->name);
  for (const std::string& model : names_of_models()) {
    SCOPED_TRACE(method + " on " + model);
    Pair pair(model, *GetParam());
    const char* const refused = refusal_of(method, model);
    try {
      pair.apply();
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(refused == nullptr ? "?" : refused), std::string::npos)
          << e.what();
      EXPECT_NE(std::string(e.what()).find(pair.model_type() + " model"), std::string::npos)
          << e.what();
      continue;
    }
    EXPECT_EQ(refused, nullptr) << "is listed";
    if (promises().at(method).identity) pair.expect_identity();
    pair.expect_merging(promises().at(method).merges);
    pair.expect_the_same_with_dropout();
    pair.expect_training();
  }
}

TEST_P(Architectures, ComputeTheSameBitsUnderEveryPlan) {
#if defined(__SANITIZE_ADDRESS__)
  const Models models = {"t5"};  // ten times slower, and the same code
#else
  const Models models = {"bert_cls", "llama", "t5"};
#endif
  for (const std::string& model : models) {
    SCOPED_TRACE(std::string(GetParam()->name) + " on " + model);
    if (refusal_of(std::string(GetParam()->name), model) != nullptr) continue;
    Pair pair(model, *GetParam());
    pair.apply();
    pair.expect_the_same_bits_under_every_plan(model == "llama" ? 1 : 0);
  }
}

std::vector<const peft::Method*> all_methods() {
  std::vector<const peft::Method*> all;
  for (const peft::Method& m : peft::all_methods()) all.push_back(&m);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Peft, Architectures, ::testing::ValuesIn(all_methods()),
                         [](const auto& row) {
                           std::string name(row.param->name);
                           std::ranges::replace(name, '+', 'p');
                           return name;
                         });

}  // namespace
}  // namespace graft::testing
