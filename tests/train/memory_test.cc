// What a block of each architecture keeps for backward under each method, in units of tokens times
// model width: against the least from which no product and no attention has to run again.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "autograd/compile.h"
#include "core/error.h"
#include "models/model.h"
#include "peft/method.h"
#include "tests/support/kept_bytes.h"
#include "train/step.h"

namespace graft::testing {
namespace {

constexpr int64_t kBatch = 4, kLength = 64, kSource = 32;  // kSource: encoder under a decoder
constexpr double kWidth = 64, kTokens = kBatch * kLength;

// In units:
constexpr double kF = 2.5;                        // feed-forward layer
constexpr double kG = 0.5;                        // keys or values of grouped heads
constexpr double kS = double{kSource} / kLength;  // encoder's text under a decoder
constexpr double kRank = 1 / kWidth;              // x A^T of a LoRA of rank 1
constexpr double kInner = 4 / kWidth;             // hidden layer of an adapter
constexpr double kGate = 1 / kWidth;              // one number for a token
constexpr double kBits = 1.0 / 32;                // of what they tell the signs of
constexpr double kMatrix = kWidth / kTokens;      // a matrix, width by width
constexpr double kRow = 1 / kTokens;              // one vector
constexpr int64_t kPrefix = 4;                    // its tokens

struct Architecture {
  const char* name;
  const char* config;
  const char* layers;  // how many blocks: they grow
  TaskKind kind = TaskKind::language;
  double through;  // kept of a frozen block that the gradient passes
  // More where the products train that read it: the context of attention, the feed-forward layer.
  double context = 1, hidden = 0;
  double targets;   // results of the products that LoRA adapts unless told which
  double ranks;     // their x A^T, in kRank
  double all;       // those of all products
  double keys = 1;  // as wide as those that get a prefix; 0: no gradient of a prefix comes here
  double matrices;  // of a block, in kMatrix
  std::set<std::string> refused = {};  // methods
};

#define GRAFT_SIZES                                                                              \
  R"("vocab_size": 50, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 160, )" \
  R"("max_position_embeddings": 64)"
#define GRAFT_T5                                                             \
  R"("model_type": "t5", "architectures": ["T5ForConditionalGeneration"], )" \
  R"("vocab_size": 50, "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 160, )"

const std::set<std::string> kWriterRefuses = {"head", "unipelt", "lst"},
                            kWithoutBiases = {"head", "unipelt", "lst", "bitfit"};

const Architecture kArchitectures[] = {
    // Input of the block, queries, keys and values, input of the second norm, gate and up.
    {.name = "Llama",
     .config = R"("model_type": "llama", "architectures": ["LlamaForCausalLM"], )"
               R"("num_key_value_heads": 2, )" GRAFT_SIZES,
     .layers = "num_hidden_layers",
     .through = 1 + (1 + 2 * kG) + 1 + 2 * kF,
     .targets = 1 + kG,
     .ranks = 2,
     .all = 7,
     .keys = kG,
     .matrices = 2 + 2 * kG + 3 * kF,
     .refused = kWithoutBiases},
    // The same with what enters the activation.
    {.name = "Gpt2",
     .config = R"("model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50, )"
               R"("n_embd": 64, "n_head": 4, "n_inner": 160, "n_positions": 64)",
     .layers = "n_layer",
     .through = 1 + 3 + 1 + kF,
     .targets = 3,
     .ranks = 1,
     .all = 4,
     .matrices = 4 + 2 * kF,
     .refused = kWriterRefuses},
    // Queries, keys and values, the inputs of both norms, what enters the activation.
    {.name = "Bert",
     .config = R"("model_type": "bert", "architectures": ["BertForMaskedLM"], )"
               R"("type_vocab_size": 2, )" GRAFT_SIZES,
     .layers = "num_hidden_layers",
     .kind = TaskKind::classification,
     .through = 3 + 1 + 1 + kF,
     .targets = 2,
     .ranks = 2,
     .all = 6,
     .matrices = 4 + 2 * kF},
    // Of a ReLU whose result no trained product reads, one bit per element.
    {.name = "T5Encoder",
     .config = GRAFT_T5 R"("num_decoder_layers": 1)",
     .layers = "num_layers",
     .through = 1 + 3 + 1 + kBits * kF,
     .hidden = kF - kBits * kF,
     .targets = 2,
     .ranks = 2,
     .all = 6,
     .keys = 0,
     .matrices = 4 + 2 * kF,
     .refused = kWithoutBiases},
    {.name = "T5GatedEncoder",
     .config = GRAFT_T5 R"("num_decoder_layers": 1, "feed_forward_proj": "gated-gelu")",
     .layers = "num_layers",
     .through = 1 + 3 + 1 + 2 * kF,
     .targets = 2,
     .ranks = 2,
     .all = 7,
     .keys = 0,
     .matrices = 4 + 3 * kF,
     .refused = kWithoutBiases},
    // And of the second attention its norm's input, its queries, the encoder's keys and values.
    {.name = "T5Decoder",
     .config = GRAFT_T5 R"("num_layers": 1)",
     .layers = "num_decoder_layers",
     .through = 1 + 3 + 1 + (1 + 2 * kS) + 1 + kBits * kF,
     .context = 2,
     .hidden = kF - kBits * kF,
     .targets = 2 + 1 + kS,
     .ranks = 2 + 1 + kS,
     .all = 8 + 2 * kS,
     .matrices = 8 + 2 * kF,
     .refused = kWithoutBiases},
};

struct Method {
  std::string name;
  Json set;
  // What the gradient reads of a block; null: no gradient enters it.
  std::function<double(const Architecture&)> floor;
  const char* variant = "";
};

// What trains reads no more than what the gradient comes by: a sum of gradients, or a norm's input.
double frozen(const Architecture& a) { return a.through; }
// Gradients of all matrices read the inputs of all products; those of norms are computed again.
double trained(const Architecture& a) { return a.through + a.context + a.hidden; }
double low_rank(const Architecture& a) { return a.through + a.ranks * kRank; }
// Adapters behind both products of a block read results that nothing else does, and keep what
// enters or leaves their activation.
double two_in_series(const Architecture& a) { return a.through + 2 * (1 + kInner); }
double one_in_series(const Architecture& a) { return a.through + 1 + kInner; }
double one_beside(const Architecture& a) { return a.through + kInner; }
double prefixed(const Architecture& a) { return a.keys > 0 ? a.through : 0; }
// The rows that an MLP makes for keys and values.
double made_prefix(const Architecture& a) { return prefixed(a) + 2 * kPrefix * a.keys * kRow; }
// Of each phm layer the products of its factors, 4 of which make its matrix of 4 x 64.
constexpr double kPhm = kInner / 4 * kMatrix;

const Json kLora = {{"r", 1}, {"lora_dropout", 0.1}};
const Json kAdapter = {{"reduction_factor", 16}, {"dropout", 0.1}};
const Json kMadePrefix = {{"num_virtual_tokens", kPrefix}, {"encoder_hidden_size", 8}};
Json both(Json a, const Json& b) {
  a.update(b);
  return a;
}

using A = Architecture;
const Method kMethods[] = {
    {"full", {}, trained},
    {"head", {}, nullptr},
    {"top_layers", {{"n", 1}}, nullptr},
    {"bitfit", {}, frozen},
    {"ln_tuning", {}, frozen},
    {"lora", {{"r", 1}}, low_rank},
    {"lora", kLora, low_rank, "Dropout"},
    {"lora", both(kLora, {{"target_modules", "all-linear"}}),
     [](const A& a) { return trained(a) + a.all * kRank; }, "AllDropout"},
    {"rslora", kLora, low_rank},
    // The magnitude's gradient reads V x, from which the result is computed again;
    {"dora", {{"r", 1}}, low_rank},
    // with dropout V drop(x), which tells nothing of the result.
    {"dora", kLora, [](const A& a) { return low_rank(a) + a.targets; }, "Dropout"},
    {"adalora", {{"init_r", 1}, {"target_r", 1}, {"lora_dropout", 0.1}}, low_rank},
    // Keys and values before their factors, from which they are computed again; the inputs of the
    // feed-forward layer's product and, in BERT, of attention's.
    {"ia3", {}, [](const A& a) { return a.through + a.hidden + (a.refused.empty() ? 1 : 0); }},
    // The weight that was changed is computed again,
    {"fish_mask", {}, trained},
    {"diff_pruning", {}, trained},
    // but not the step in the subspace, which is as costly as a product.
    {"intrinsic",
     {{"intrinsic_dim", 200}},
     [](const A& a) { return trained(a) + a.matrices * kMatrix; }},
    {"houlsby", kAdapter, two_in_series},
    {"houlsby", both(kAdapter, {{"non_linearity", "relu"}}), two_in_series, "Relu"},
    {"pfeiffer", kAdapter, one_in_series},
    {"parallel", kAdapter, one_beside},
    {"scaled_parallel", kAdapter, one_beside},
    {"compacter", kAdapter, [](const A& a) { return two_in_series(a) + 4 * kPhm; }},
    {"compacter++", kAdapter, [](const A& a) { return one_in_series(a) + 2 * kPhm; }},
    {"prompt_tuning", {}, frozen},
    {"prefix_tuning", {{"num_virtual_tokens", kPrefix}}, prefixed},
    {"prefix_mlp", kMadePrefix, made_prefix},
    {"mam", both(kMadePrefix, kAdapter),
     [](const A& a) { return std::max(made_prefix(a), a.through) + kInner; }},
    // And the gates of the prefix, of each LoRA and of the adapter.
    {"unipelt", both(both(kMadePrefix, kAdapter), kLora),
     [](const A& a) {
       return made_prefix(a) + a.ranks * kRank + 1 + kInner + (2 + a.ranks) * kGate;
     }},
    // The block's output, and of a trained block of a quarter of the width: what it takes from that
    // output, queries, keys, values, context, the inputs of both norms and of the activation.
    {"lst", {{"reduction_factor", 4}}, [](const A&) { return 1 + (7 + kF) / 4; }},
};

// Dropout of the model: masks are drawn again, and the results of ReLU and product that stand
// before a mask are kept in place of those behind it. So the floors are the same.
constexpr ModelConfig::Dropout kDropout = {.embedding = 0.1, .attention = 0.1, .hidden = 0.1};

peft::Adapted adapted(const Architecture& a, const Method& m, int64_t layers, bool dropout) {
  ModelConfig model =
      parse_config(fmt::format(R"({{{}, "{}": {}}})", a.config, a.layers, layers), "config");
  model.dropout = kDropout;
  const peft::Method& method = peft::find_method(m.name);
  const bool decoder = std::string_view(a.layers) == "num_decoder_layers";
  const Graph base = build_model(model, {.batch = kBatch,
                                         .length = decoder ? kSource : kLength,
                                         .target_length = kLength,
                                         .head = training_head(model, a.kind),
                                         .labels = 2,
                                         .dropout = dropout});
  const Json set = m.set.is_null() ? Json::object() : m.set;
  const Json config = training_config(model, method, set, 10, a.kind);
  return peft::apply(base, method, config, {.training = true});
}

using Case = std::tuple<Architecture, Method, bool>;
class KeptUnits : public ::testing::TestWithParam<Case> {};

// The difference that one more block makes. Less than the floor would be a wrong formula.
TEST_P(KeptUnits, AreTheFloor) {
  const Architecture& a = std::get<0>(GetParam());
  const Method& m = std::get<1>(GetParam());
  const bool dropout = std::get<2>(GetParam());
  const auto kept = [&](int64_t layers) {
    const MicroBatch whole{adapted(a, m, layers, dropout), 1};
    EXPECT_TRUE(!dropout || whole.adapted.graph.input("rng").valid());
    return static_cast<double>(kept_bytes(*compile(training_step({&whole, 1}, a.kind, {}, 1e-3))));
  };
  const double units = (kept(3) - kept(2)) / (kTokens * kWidth * sizeof(float));
  const double floor = m.floor ? m.floor(a) : 0;
  EXPECT_LE(units, 1.03 * floor);
  EXPECT_GE(units, 0.999 * floor);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Architecture& a : kArchitectures) {
    for (const Method& m : kMethods) {
      if (a.refused.contains(m.name)) continue;
      all.emplace_back(a, m, false);
      all.emplace_back(a, m, true);
    }
  }
  return all;
}

std::string name_of_case(const ::testing::TestParamInfo<Case>& row) {
  const auto& [a, m, dropout] = row.param;
  std::string name = std::string(a.name) + "_" + m.name + m.variant + (dropout ? "_dropout" : "");
  std::ranges::replace(name, '+', 'p');
  return name;
}

TEST(KeptUnitsTable, HoldsEveryMethodWhereItFits) {
  std::set<std::string> held, known;
  for (const Method& m : kMethods) held.insert(m.name);
  for (const peft::Method& m : peft::all_methods()) known.emplace(m.name);
  EXPECT_EQ(held, known);
  const auto fits = [](const Architecture& a, const Method& m) {
    try {
      return peft::trainable_count(adapted(a, m, 1, true).graph) > 0;
    } catch (const UsageError&) {
      return false;
    }
  };
  for (const Architecture& a : kArchitectures) {
    for (const Method& m : kMethods)
      EXPECT_TRUE(!a.refused.contains(m.name) || !fits(a, m)) << a.name << " " << m.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, KeptUnits, ::testing::ValuesIn(cases()), name_of_case);

}  // namespace
}  // namespace graft::testing
