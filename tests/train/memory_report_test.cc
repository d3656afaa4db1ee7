// What a plan says of its memory, step by step and in words.
#include "autograd/memory_report.h"

#include <gtest/gtest.h>

#include "autograd/compile.h"
#include "models/model.h"
#include "peft/method.h"
#include "train/step.h"

namespace graft::testing {
namespace {

constexpr int64_t kLayers = 3;

std::shared_ptr<const Program> step_of(const char* method, int64_t parts,
                                       const PlanOptions& options) {
  const ModelConfig model = parse_config(
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 50,
          "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
          "intermediate_size": 160, "max_position_embeddings": 64})",
      "config");
  const peft::Method& m = peft::find_method(method);
  const Json config = training_config(model, m, Json::object(), 10, TaskKind::language);
  const int64_t front = peft::virtual_tokens(m, config);
  const Graph base =
      build_model(model, {.batch = 2, .length = 32 + front, .head = Head::causal_lm});
  const MicroBatch part{peft::apply(base, m, config, {.training = true}),
                        1 / static_cast<double>(parts)};
  return compile(training_step(std::vector<MicroBatch>(static_cast<size_t>(parts), part),
                               TaskKind::language, {}, 1e-3),
                 options);
}

struct Row {
  const char *name, *method;
  int64_t parts;
  PlanOptions options;
};

class MemoryReport : public ::testing::TestWithParam<Row> {
 protected:
  std::shared_ptr<const Program> program_ =
      step_of(GetParam().method, GetParam().parts, GetParam().options);
};

// At every step the values are those that the timeline counts, and at the peak all parts together
// are what the program is given.
TEST_P(MemoryReport, AddsUp) {
  const std::vector<size_t> timeline = memory_timeline(*program_);
  for (size_t step = 0; step < timeline.size(); step += 7) {
    size_t bytes = 0;
    for (const Held& h : held_at(*program_, static_cast<int32_t>(step))) bytes += h.bytes;
    EXPECT_EQ(bytes, program_->persistent_bytes + timeline[step]) << step;
  }
  const MemoryParts parts = memory_parts(*program_);
  size_t sum = 0;
  for (int i = 0; i < kMemoryParts; ++i) sum += parts.of(static_cast<MemoryPart>(i));
  EXPECT_EQ(sum, program_->peak_bytes());
  size_t alike = 0;
  for (const HeldAlike& h : alike_at_peak(*program_)) alike += h.bytes;
  EXPECT_EQ(alike + parts.gaps, program_->peak_bytes());
}

// In forward nothing is recomputed and no gradient is there; as backward begins, every block has
// the same values waiting.
TEST_P(MemoryReport, KnowsWhatIsKept) {
  std::map<std::string, int64_t> kept;
  for (int32_t step = 0; phase_at(*program_, step) == Phase::forward || kept.empty(); ++step) {
    if (program_->steps[static_cast<size_t>(step)].action == Program::Action::free) continue;
    const bool forward = phase_at(*program_, step) == Phase::forward;
    for (const Held& h : held_at(*program_, step)) {
      const bool later = h.part == MemoryPart::recomputed || h.part == MemoryPart::gradients;
      EXPECT_FALSE(forward && later) << describe_step(*program_, step) << ": " << h.place;
      if (!forward && h.part == MemoryPart::kept) ++kept[h.place];
    }
  }
  if (GetParam().options.recompute == Recompute::automatic)
    return;  // block by block something else
  for (const auto& [place, count] : kept) {
    const bool of_blocks = place.starts_with("attention") || place.starts_with("mlp");
    EXPECT_TRUE(!of_blocks || count % kLayers == 0) << place << ": " << count;
  }
  const int64_t gates = GetParam().options.recompute == Recompute::none ? 2 : 1;  // and silu of it
  EXPECT_EQ(kept["mlp.gate"], gates * kLayers);
}

INSTANTIATE_TEST_SUITE_P(
    All, MemoryReport,
    ::testing::Values(Row{"None", "lora", 1, {.recompute = Recompute::none}},
                      Row{"Cheap", "lora", 1, {.recompute = Recompute::cheap}},
                      Row{"Least", "lora", 1, kLeastMemory},
                      Row{"Parts", "lora", 2, {.recompute = Recompute::cheap}},
                      Row{"Full", "full", 1, {.recompute = Recompute::cheap}},
                      Row{"Prompt", "prompt_tuning", 1, {.recompute = Recompute::cheap}}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace graft::testing
