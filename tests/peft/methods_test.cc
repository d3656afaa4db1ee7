// What every method promises, from one table: the base untouched, the counts, freezing by
// construction, merging, files.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "autograd/evaluate.h"
#include "autograd/executor.h"
#include "autograd/gradient.h"
#include "autograd/op.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fold.h"
#include "autograd/planner.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "peft/adapter_files.h"
#include "tests/support/golden.h"
#include "tests/support/peft_case.h"

namespace graft::testing {
namespace {

constexpr int64_t kBatch = 2, kLength = 8;

struct Row {
  const char* method;
  int64_t (*count)(int64_t d, int64_t f,
                   int64_t layers);  // trainable numbers without the head; null: not checked here
  Json set = Json::object();
};

// d: width, f: inner width of the MLP.
const std::vector<Row>& rows() {
  static const std::vector<Row> table = {
      {"full", nullptr},
      {"head", [](int64_t, int64_t, int64_t) { return int64_t{0}; }},
      {"top_layers",
       [](int64_t d, int64_t f, int64_t) { return 4 * (d * d + d) + 2 * d * f + f + d + 4 * d; },
       {{"n", 1}}},
      {"bitfit", [](int64_t d, int64_t f, int64_t n) { return n * (7 * d + f) + d; }},
      {"ln_tuning", [](int64_t d, int64_t, int64_t n) { return (2 * n + 1) * 2 * d; }},
      {"lora",
       [](int64_t d, int64_t, int64_t n) { return n * 2 * 3 * 2 * d; },
       {{"r", 3}, {"lora_alpha", 5}}},
      {"rslora", [](int64_t d, int64_t, int64_t n) { return n * 2 * 8 * 2 * d; }},
      {"dora", [](int64_t d, int64_t, int64_t n) { return n * 2 * (8 * 2 * d + d); }},
      {"ia3", [](int64_t d, int64_t f, int64_t n) { return n * (2 * d + f); }},
      {"houlsby",
       [](int64_t d, int64_t, int64_t n) { return 2 * n * (2 * d * (d / 4) + d / 4 + d); },
       {{"reduction_factor", 4}}},
      {"pfeiffer",
       [](int64_t d, int64_t, int64_t n) { return n * (2 * d * (d / 4) + d / 4 + d); },
       {{"reduction_factor", 4}}},
      {"parallel", [](int64_t d, int64_t, int64_t n) { return n * (2 * d * (d / 2) + d / 2 + d); }},
      {"scaled_parallel",
       [](int64_t d, int64_t, int64_t n) { return n * (2 * d * (d / 2) + d / 2 + d + 1); }},
      {"compacter",
       [](int64_t d, int64_t, int64_t n) { return 2 * n * (2 * (d + d / 3) + d / 3 + d) + 64; },
       {{"reduction_factor", 3}}},
      {"compacter++",
       [](int64_t d, int64_t, int64_t n) { return n * (2 * (d + d / 3) + d / 3 + d) + 64; },
       {{"reduction_factor", 3}}},
      {"prompt_tuning",
       [](int64_t d, int64_t, int64_t) { return 3 * d; },
       {{"num_virtual_tokens", 3}}},
      {"prefix_tuning",
       [](int64_t d, int64_t, int64_t n) { return 2 * n * 3 * d; },
       {{"num_virtual_tokens", 3}}},
      {"prefix_mlp", nullptr, {{"num_virtual_tokens", 3}}},
      {"adalora",
       [](int64_t d, int64_t, int64_t n) { return n * 2 * 4 * (2 * d + 1); },
       {{"init_r", 4}, {"target_r", 2}, {"total_step", 10}}},
      {"fish_mask", nullptr, {{"keep_ratio", 0.01}}},
      {"diff_pruning", nullptr},
      {"diff_pruning", nullptr, {{"stage", "sparse"}}},
      {"intrinsic",
       [](int64_t, int64_t, int64_t) { return int64_t{100}; },
       {{"intrinsic_dim", 100}}},
      {"mam", nullptr, {{"num_virtual_tokens", 3}, {"encoder_hidden_size", 7}}},
      {"unipelt",
       [](int64_t d, int64_t, int64_t n) {
         const int64_t prefix = 3 * d + (d * 7 + 7) + (7 + 1) * 2 * n * d;
         const int64_t block = 2 * 4 * 2 * d + (2 * d * (d / 4) + d / 4 + d) + 4 * (d + 1);
         return prefix + n * block;
       },
       {{"num_virtual_tokens", 3}, {"encoder_hidden_size", 7}, {"r", 4}, {"reduction_factor", 4}}},
      {"lst",
       [](int64_t d, int64_t f, int64_t n) {
         const int64_t s = d / 2, g = f / 2;  // the width of all heads is halved, too
         const int64_t block = 4 * (s * s + s) + 2 * s * g + g + s + 4 * s + (d * s + s) + 1;
         return (d * s + s) + n * block + 2 * s + (s * d + d);
       },
       {{"reduction_factor", 2}}},
  };
  return table;
}

class Methods : public ::testing::TestWithParam<Row> {
 protected:
  Methods()
      : model_(load_config(golden_dir() + "/models/bert_cls")),
        method_(peft::find_method(GetParam().method)) {
    Json config = GetParam().set;
    config["modules_to_save"] = {"classifier"};
    base_ = build_model(model_, {.batch = kBatch, .length = kLength, .head = Head::classification});
    adapted_ = peft::apply(base_, method_, config);
    fill_store(adapted_, model_.folder, store_);
    if (GetParam().set.value("stage", "") == "sparse") scatter_index();
    const int64_t ids[kBatch * kLength] = {2, 11, 12, 13, 14, 15, 16, 3,
                                           2, 21, 22, 23, 24, 3,  0,  0};
    Tensor tokens = Tensor::from<int64_t>({kBatch, kLength}, ids),
           mask(DType::i64, {kBatch, kLength});
    for (int64_t i = 0; i < mask.elements(); ++i) mask.data<int64_t>()[i] = ids[i] != 0;
    inputs_ = {{"input_ids", tokens},
               {"attention_mask", mask},
               {"token_type_ids", Tensor(DType::i64, {kBatch, kLength})},
               {"position_ids",
                Tensor::from({kBatch, kLength},
                             position_ids(model_, ids, mask.span<int64_t>(), kBatch, kLength))}};
  }

  // Every 50th entry, where training would have chosen them.
  void scatter_index() {
    const Tensor& values = store_.get("sparse_delta.values");
    Tensor index(DType::i64, values.shape());
    for (int64_t i = 0; i < index.elements(); ++i) index.data<int64_t>()[i] = 50 * i;
    store_.set("sparse_delta.index", index);
  }

  void disturb() { testing::disturb(adapted_.graph, store_, 0.05F); }

  Tensor logits(const Graph& g, const ParamStore& s) const {
    return evaluate(g, inputs_, s).outputs.at("logits");
  }

  Builder joint() const {
    Builder b(cheap_forms(adapted_.graph));
    const Value loss = ops::sum(b, ops::pow_scalar(b, b.graph().output("logits"), 2));
    b.output("loss", loss);
    for (const auto& [name, g] : gradient(b, loss)) b.output("grad/" + name, g);
    return b;
  }

  ModelConfig model_;
  const peft::Method& method_;
  Graph base_;
  peft::Adapted adapted_;
  ParamStore store_;
  Inputs inputs_;
};

TEST_P(Methods, IdentityAtTheStart) {
  const bool same =
      mismatch(logits(adapted_.graph, store_), logits(base_, store_), 1e-6, 2e-6).empty();
  EXPECT_EQ(same, promises().at(GetParam().method).identity);
}

TEST_P(Methods, CountEqualsFormula) {
  if (GetParam().count == nullptr) return;
  EXPECT_EQ(peft::trainable_count(adapted_.graph, false),
            GetParam().count(model_.hidden, model_.intermediate, model_.layers) +
                (std::string(GetParam().method) == "bitfit" ? model_.hidden : 0));
}

TEST_P(Methods, FrozenLeavesHaveNoGradient) {
  const Graph g = joint().finish();
  std::set<std::string> with_gradient;
  for (const auto& [name, v] : g.outputs()) {
    if (name.starts_with("grad/")) with_gradient.insert(name.substr(5));
  }
  for (const Param& p : g.params())
    EXPECT_EQ(with_gradient.contains(p.name), p.trainable) << p.name;
  // A product on the way to the loss needs one more for each operand that something trainable
  // reaches, and none besides.
  const size_t count = g.nodes().size();
  std::vector<bool> trains(count, false), matters(count, false);
  for (size_t i = 0; i < count; ++i) {
    const Node& n = g.nodes()[i];
    if (n.op->name == "param") trains[i] = g.param(n.attrs.as<NameAttrs>().name).trainable;
    for (const Value v : n.inputs)
      trains[i] = trains[i] || (v.valid() && trains[static_cast<size_t>(v.node)]);
  }
  matters[static_cast<size_t>(g.output("loss").node)] = true;
  size_t expected = 0, found = 0;
  for (size_t i = count; i-- > 0;) {
    const Node& n = g.nodes()[i];
    const bool product = n.op->name == "linear" || n.op->name == "matmul";
    if (n.phase != Phase::forward) {
      found += product || n.op->name == "linear_dx";
      continue;
    }
    if (!matters[i] || n.op->vjp == nullptr) continue;  // constant: DoRA's norm
    for (const Value v : n.inputs) {
      if (v.valid()) matters[static_cast<size_t>(v.node)] = true;
    }
    for (size_t k = 0; k < 2 && product; ++k) {
      expected += trains[static_cast<size_t>(n.inputs[k].node)];
    }
  }
  EXPECT_EQ(found, expected);
}

TEST_P(Methods, CheapFormsEqualTheDefinition) {
  disturb();
  EXPECT_EQ(mismatch(logits(cheap_forms(adapted_.graph), store_), logits(adapted_.graph, store_),
                     1e-5, 1e-5),
            "");
}

TEST_P(Methods, MergeIsDerived) {
  disturb();
  const Tensor before = logits(adapted_.graph, store_);
  if (!promises().at(GetParam().method).merges) {
    EXPECT_THROW(fold_parameters(adapted_.graph, store_), GraphError);
    return;
  }
  const Folded merged = fold_parameters(adapted_.graph, store_);
  EXPECT_EQ(mismatch(logits(merged.graph, merged.params), before, 1e-5, 1e-5), "");
  EXPECT_EQ(merged.graph.nodes().size(), base_.nodes().size());
}

TEST_P(Methods, ExecutorEqualsEvaluator) {
  disturb();
  const Graph g = joint().finish();
  const Evaluation want = evaluate(g, inputs_, store_);
  Executor e(std::make_shared<const Program>(plan(g)), store_);
  e.set_poison(true);
  for (const std::string& n : g.input_names()) e.set_input(n, inputs_.at(n));
  e.run();
  for (const auto& [name, t] : want.outputs)
    EXPECT_EQ(std::memcmp(e.output(name).bytes(), t.bytes(), t.size_bytes()), 0) << name;
  EXPECT_EQ(e.high_water_bytes(), e.program().arena_bytes);
  EXPECT_LE(static_cast<double>(e.program().arena_bytes),
            1.1 * static_cast<double>(e.program().live_bytes));
}

TEST_P(Methods, FilesRoundTrip) {
  disturb();
  const std::string folder = std::filesystem::temp_directory_path() /
                             fmt::format("graft-{}-{}", GetParam().method, ::getpid());
  peft::save_adapter(folder, method_, adapted_.config, adapted_.graph, store_, "base");
  const peft::AdapterConfig config = peft::read_adapter_config(folder);
  const peft::Adapted again = peft::apply(base_, *config.method, config.config);
  ParamStore loaded;
  load_parameters(model_.folder, again.graph, loaded);
  peft::initialize(again, loaded, 99);
  peft::load_adapter(folder, config, again.graph, loaded);
  EXPECT_EQ(mismatch(logits(again.graph, loaded), logits(adapted_.graph, store_), 0, 0), "");
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(Table, Methods, ::testing::ValuesIn(rows()), [](const auto& row) {
  std::string name = row.param.method;
  std::ranges::replace(name, '+', 'p');  // compacter++
  if (row.param.set.contains("stage"))
    name += "_" + row.param.set["stage"].template get<std::string>();
  return name;
});

TEST(MethodTable, EveryMethodHasARow) {
  std::set<std::string> covered;
  for (const Row& r : rows()) covered.insert(r.method);
  for (const peft::Method& m : peft::all_methods())
    EXPECT_TRUE(covered.contains(std::string(m.name))) << m.name;
}

TEST(MethodErrors, SayWhatIsKnown) {
  auto message = [](auto f) -> std::string {
    try {
      f();
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message([] { peft::find_method("lorra"); }).find("known: full, head"),
            std::string::npos);
  const peft::Method& lora = peft::find_method("lora");
  EXPECT_NE(message([&] {
              peft::complete_config(lora, {{"rank", 4}});
            }).find("no hyperparameter 'rank'"),
            std::string::npos);
  EXPECT_NE(message([&] {
              peft::complete_config(lora, {{"r", "four"}});
            }).find("'r' should be like 8"),
            std::string::npos);
  const Graph base =
      build_model(load_config(golden_dir() + "/models/bert_cls"), {.batch = 1, .length = 4});
  for (const Json& rank : {Json(1e73), Json("4"), Json(2.5)}) {
    EXPECT_NE(message([&] {
                peft::apply(base, lora, {{"rank_pattern", {{"query", rank}}}});
              }).find("a rank of rank_pattern should be"),
              std::string::npos)
        << rank;
  }
  EXPECT_NE(message([&] {
              peft::apply(base, lora, {{"target_modules", {"q_proj"}}});
            }).find("attention.self.query"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::testing
