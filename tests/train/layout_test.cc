// How close memory comes to what is alive at once: every method, on models of each architecture.
#include <gtest/gtest.h>

#include "autograd/passes/optimize.h"
#include "autograd/planner.h"
#include "models/model.h"
#include "peft/method.h"
#include "train/step.h"

namespace graft::testing {
namespace {

struct Model {
  const char *name, *config;
  int64_t batch, length;
};

// One value of tokens times width is two hundredths of what the small ones take: with one block
// less there are methods whose values cannot be put closer together.
const Model kModels[] = {
    {"llama",
     R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 200,
         "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4,
         "intermediate_size": 160, "num_key_value_heads": 2, "max_position_embeddings": 64})",
     2, 32},
    {"bert",
     R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 200,
         "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4,
         "intermediate_size": 160, "max_position_embeddings": 64, "type_vocab_size": 2})",
     2, 32},
    {"gpt2",
     R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 200,
         "n_embd": 64, "n_layer": 6, "n_head": 4, "n_inner": 160, "n_positions": 64})",
     2, 32},
    {"t5",
     R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 200,
         "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 160, "num_layers": 4,
         "num_decoder_layers": 4, "feed_forward_proj": "relu"})",
     2, 32},
    {"llama_110m",
     R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000,
         "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
         "intermediate_size": 2048, "num_key_value_heads": 12, "max_position_embeddings": 2048})",
     4, 256},
};

Graph step_of(const Model& m, const peft::Method& method, double max_grad_norm) {
  const ModelConfig model = parse_config(m.config, m.name);
  const TaskKind kind =
      m.name == std::string("bert") ? TaskKind::classification : TaskKind::language;
  const Json config = training_config(model, method, Json::object(), 10, kind);
  const Graph base = build_model(model, {.batch = m.batch,
                                         .length = m.length + peft::virtual_tokens(method, config),
                                         .target_length = m.length,
                                         .head = training_head(model, kind),
                                         .labels = 2});
  const MicroBatch whole{peft::apply(base, method, config, {.training = true}), 1};
  if (peft::trainable_count(whole.adapted.graph) == 0) return {};
  return optimize(training_step({&whole, 1}, kind, {.max_grad_norm = max_grad_norm}, 1e-3));
}

class Layout : public ::testing::TestWithParam<Model> {};

TEST_P(Layout, ComesCloseToWhatIsAlive) {
  size_t planned = 0;
  for (const peft::Method& method : peft::all_methods()) {
    for (const double max_grad_norm : {1.0, 0.0}) {
      Graph step;
      try {
        step = step_of(GetParam(), method, max_grad_norm);
      } catch (const UsageError&) {
        continue;  // the method does not fit the model
      }
      if (step.nodes().empty()) continue;
      for (const Recompute recompute : {Recompute::none, Recompute::cheap}) {
        const Program program = plan(step, {.recompute = recompute});
        ++planned;
        EXPECT_GE(program.arena_bytes, program.live_bytes);
        EXPECT_LE(static_cast<double>(program.arena_bytes),
                  1.03 * static_cast<double>(program.live_bytes))
            << method.name << ", clipping at " << max_grad_norm << ", recompute "
            << name_of(recompute);
      }
    }
  }
  EXPECT_GE(planned, 70);
}

INSTANTIATE_TEST_SUITE_P(All, Layout, ::testing::ValuesIn(kModels),
                         [](const auto& row) { return std::string(row.param.name); });

// The same program gets the same places.
TEST(LayoutOfPrograms, IsTheSameEachTime) {
  const Graph step = step_of(kModels[1], peft::find_method("lora"), 1);
  EXPECT_EQ(to_text(plan(step)), to_text(plan(step)));
}

}  // namespace
}  // namespace graft::testing
