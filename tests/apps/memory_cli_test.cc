// The plan is true of the process: what it has beside the loaded model is what was planned.
#include <gtest/gtest.h>

#include "tests/apps/program.h"

namespace graft::testing {
namespace {

// Shadow memory and quarantines are not the program's own.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMemoryIsOurs = false;
#else
constexpr bool kMemoryIsOurs = true;
#endif

// What the process has beside what is planned: code that is read in as it runs, the program itself,
// the threads' stacks.
constexpr double kShare = 1.05;
constexpr size_t kBeside = size_t{16} << 20;

void expect_as_planned(const Json& j) {
  const auto planned = j.at("planned_over_model_bytes").get<size_t>(),
             measured = j.at("rss_over_model_bytes").get<size_t>();
  EXPECT_LE(static_cast<double>(measured), kShare * static_cast<double>(planned) + kBeside);
  // Nearly all of an arena is written to.
  EXPECT_GE(static_cast<double>(measured), 0.8 * static_cast<double>(planned));
}

// Models of 30 to 60 MB.
const std::map<std::string, Json>& models() {
  static const std::map<std::string, Json> all = {
      {"bert",
       {{"model_type", "bert"},
        {"hidden_size", 384},
        {"intermediate_size", 1536},
        {"num_hidden_layers", 4},
        {"num_attention_heads", 6},
        {"vocab_size", 8000},
        {"max_position_embeddings", 128},
        {"type_vocab_size", 2}}},
      {"llama",
       {{"model_type", "llama"},
        {"hidden_size", 384},
        {"intermediate_size", 1024},
        {"num_hidden_layers", 4},
        {"num_attention_heads", 6},
        {"vocab_size", 8000},
        {"max_position_embeddings", 128}}},
      {"gpt2",  // weights lie transposed; the table is the head
       {{"model_type", "gpt2"},
        {"n_embd", 384},
        {"n_layer", 4},
        {"n_head", 6},
        {"n_positions", 128},
        {"vocab_size", 8000}}},
      {"t5",
       {{"model_type", "t5"},
        {"d_model", 384},
        {"d_kv", 64},
        {"d_ff", 1024},
        {"num_layers", 3},
        {"num_heads", 6},
        {"vocab_size", 8000}}},
  };
  return all;
}

struct Row {
  const char *model, *method;
};

TEST(MemoryCli, AStepTakesWhatWasPlanned) {
  if (!kMemoryIsOurs) GTEST_SKIP() << "the sanitizer's memory is measured, too";
  const Row rows[] = {
      {"bert", "lora"},
      {"bert", "full"},
      {"bert", "houlsby"},
      {"llama", "lora"},
      {"llama", "lora --set init_lora_weights=olora"},  // the model's weights change at the start
      {"llama", "lora --budget 90M"},
      {"llama", "full"},
      {"gpt2", "prefix_tuning"},
      {"t5", "compacter"},
  };
  const TemporaryFolder dir;
  for (const Row& row : rows) {
    SCOPED_TRACE(fmt::format("{} {}", row.model, row.method));
    write_json_file(dir / "config.json", models().at(row.model));
    const Result r = graft(fmt::format("bench --json --batch 8 --length 96 --steps 1 --model "
                                       "{}/config.json --method {}",
                                       dir.path(), row.method),
                           Streams::out);
    ASSERT_EQ(r.status, 0) << r.output;
    expect_as_planned(r.json());
  }
}

// Weights of files, as they are and as 16-bit floats; the plan knows which.
TEST(MemoryCli, PagesOfFilesGoBack) {
  if (!kMemoryIsOurs) GTEST_SKIP() << "the sanitizer's memory is measured, too";
  const TemporaryFolder dir;
  const std::string text = "text,label\na brown dog,animal\nfresh bread,food\n";
  write_file(dir / "things.csv", text);
  const Result adapter = graft("tune --json --steps 1 --batch 1 --method bitfit --task " +
                                   (dir / "things.csv") + " --test " + (dir / "things.csv") +
                                   " --output " + (dir / "adapter") + minilm_option(),
                               Streams::out);
  ASSERT_EQ(adapter.status, 0) << adapter.output;
  expect_as_planned(adapter.json());
  const Result half = graft("merge --json --dtype bf16 --adapter " + (dir / "adapter") +
                                " --output " + (dir / "half") + minilm_option(),
                            Streams::out);
  ASSERT_EQ(half.status, 0) << half.output;
  std::map<std::string, size_t> weights;  // of LoRA's plan, by model
  for (const std::string& model : {minilm_folder(), dir / "half"}) {
    for (const char* method : {"lora", "full", "bitfit", "prompt_tuning", "dora"}) {
      SCOPED_TRACE(fmt::format("{} {}", model, method));
      const std::string step =
          fmt::format(" --json --batch 16 --length 64 --method {} --model {}", method, model);
      const Result r = graft("bench --steps 1" + step, Streams::out);
      ASSERT_EQ(r.status, 0) << r.output;
      expect_as_planned(r.json());
      const Json plan = graft("plan" + step, Streams::out).json();
      EXPECT_EQ(plan.at("peak_bytes"), r.json().at("peak_bytes"));
      if (method == std::string("lora"))
        weights[model] = plan.at("parts").at("weights").get<size_t>();
    }
  }
  EXPECT_LT(weights[dir / "half"], 0.51 * static_cast<double>(weights[minilm_folder()]));
}

}  // namespace
}  // namespace graft::testing
