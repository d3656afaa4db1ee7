// What a block of each architecture keeps for backward, in units of tokens times model width:
// against the least that any order of computing needs without running a product again.
#include <gtest/gtest.h>

#include "autograd/compile.h"
#include "models/model.h"
#include "peft/method.h"
#include "train/step.h"

namespace graft::testing {
namespace {

constexpr int64_t kBatch = 2, kLength = 32, kWidth = 64;

// Feed-forward 160 wide (f = 2.5), two key-value heads for four heads (g = 0.5) where there are.
const char* config_of(const std::string& model, int64_t layers) {
  static std::string text;
  const std::string common = fmt::format(R"("vocab_size": 50, "hidden_size": 64, )"
                                         R"("num_hidden_layers": {}, "num_attention_heads": 4, )",
                                         layers);
  if (model == "llama") {
    text = fmt::format(R"({{"model_type": "llama", "architectures": ["LlamaForCausalLM"], {}
      "intermediate_size": 160, "num_key_value_heads": 2, "max_position_embeddings": 64}})",
                       common);
  } else if (model == "bert") {
    text = fmt::format(R"({{"model_type": "bert", "architectures": ["BertForMaskedLM"], {}
      "intermediate_size": 160, "max_position_embeddings": 64, "type_vocab_size": 2}})",
                       common);
  } else if (model == "gpt2") {
    text = fmt::format(R"({{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"],
      "vocab_size": 50, "n_embd": 64, "n_layer": {}, "n_head": 4, "n_inner": 160,
      "n_positions": 64}})",
                       layers);
  } else {  // t5, t5_gated: the encoder grows
    text = fmt::format(R"({{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"],
      "vocab_size": 50, "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 160,
      "num_layers": {}, "num_decoder_layers": 1, "feed_forward_proj": "{}"}})",
                       layers, model == "t5" ? "relu" : "gated-gelu");
  }
  return text.c_str();
}

// Bytes alive as backward begins.
size_t kept_bytes(const Program& program) {
  const std::vector<size_t> timeline = memory_timeline(program);
  for (size_t s = 0; s < program.steps.size(); ++s) {
    const Program::Step& step = program.steps[s];
    const bool runs = step.action == Program::Action::run;
    if (runs && program.graph.node(step.node).phase == Phase::backward) return timeline[s - 1];
  }
  return 0;
}

struct Block {
  const char* name;
  std::string model, method;
  Json set;
  double most;  // units per layer
};

class KeptUnits : public ::testing::TestWithParam<Block> {};

// The difference that one more layer makes.
TEST_P(KeptUnits, AreTheFloor) {
  const Block& c = GetParam();
  std::vector<double> kept;
  for (const int64_t layers : {2, 3}) {
    const ModelConfig model = parse_config(config_of(c.model, layers), "config");
    const peft::Method& method = peft::find_method(c.method);
    const TaskKind kind = c.model == "bert" ? TaskKind::classification : TaskKind::language;
    const Json config = training_config(model, method, c.set, 10, kind);
    const Graph base = build_model(
        model,
        {.batch = kBatch, .length = kLength, .head = training_head(model, kind), .labels = 2});
    const MicroBatch whole{peft::apply(base, method, config, {.training = true}), 1};
    const auto program = compile(training_step({&whole, 1}, kind, {}, 1e-3));
    kept.push_back(static_cast<double>(kept_bytes(*program)) / (kBatch * kLength * kWidth * 4));
  }
  const double units = kept[1] - kept[0];
  EXPECT_GT(units, 1);
  EXPECT_LE(units, 1.03 * c.most) << units;
}

// r = 1: an adapted product keeps 1/64 of a unit, x A^T, or nothing.
constexpr double kRank = 1.0 / 64;
const Json kQv = {{"r", 1}};
Json all_of(std::vector<std::string> targets) { return {{"r", 1}, {"target_modules", targets}}; }

INSTANTIATE_TEST_SUITE_P(
    All, KeptUnits,
    ::testing::Values(
        // 4 + 2 g + 2 f
        Block{"LlamaLoraQv", "llama", "lora", kQv, 10 + 2 * kRank},
        Block{"LlamaLoraAll", "llama", "lora",
              all_of({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
              10 + 7 * kRank},
        Block{"LlamaIa3", "llama", "ia3", Json::object(), 10},
        Block{"LlamaNorms", "llama", "ln_tuning", Json::object(), 10},
        Block{"LlamaDora", "llama", "dora", kQv, 10 + 2 * kRank},
        // 6 + f
        Block{"Gpt2Lora", "gpt2", "lora", kQv, 8.5 + kRank},
        Block{"Gpt2Norms", "gpt2", "ln_tuning", Json::object(), 8.5},
        Block{"BertLora", "bert", "lora", kQv, 8.5 + 2 * kRank},
        Block{"BertBiases", "bert", "bitfit", Json::object(), 8.5},
        Block{"BertIa3", "bert", "ia3", Json::object(), 8.5},
        // 6 + f, and 6 + 2 f
        Block{"T5LoraOutput", "t5", "lora", all_of({"q", "v", "wo"}), 8.5 + 3 * kRank},
        Block{"T5GatedLora", "t5_gated", "lora", kQv, 11 + 2 * kRank}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace graft::testing
