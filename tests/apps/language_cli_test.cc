// Language models from the command line: a vocabulary, a model from nothing, adapters on it.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "tests/apps/program.h"

namespace graft::testing {
namespace {

constexpr const char* kConfig = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
  "num_attention_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": true,
  "bos_token_id": 0, "eos_token_id": 0})";

// Sentences that a small model learns at once; of two kinds.
void write_texts(const TemporaryFolder& dir) {
  std::string animals, food;
  for (int i = 0; i < 300; ++i) {
    animals += fmt::format("the {} cat saw {} dogs\n", i % 2 == 0 ? "old" : "young", i % 7);
    food += fmt::format("bread and {} for {} guests\n", i % 3 == 0 ? "soup" : "honey", i % 5);
  }
  write_file(dir / "animals.txt", animals);
  write_file(dir / "food.txt", food);
}

double perplexity(const Json& j, const char* metrics = "metrics") {
  return j.at(metrics).at("perplexity").get<double>();
}

class LanguageCli : public ::testing::Test {
 protected:
  LanguageCli() { write_texts(dir); }

  // A folder with a configuration and a tokenizer, without weights.
  void begin() {
    const Result r = graft("train-tokenizer --json --size 300 --output " + (dir / "start") + " " +
                               (dir / "animals.txt") + " " + (dir / "food.txt"),
                           Streams::out);
    ASSERT_EQ(r.status, 0) << r.output;
    EXPECT_EQ(r.json().at("vocabulary_size"), 300);
    write_file(dir / "start/config.json", kConfig);
  }
  std::string tune(const std::string& model, const std::string& text, const std::string& rest) {
    return "tune --json --batch 8 --max-length 32 --task lm --train " + (dir / text) +
           ".txt --model " + (dir / model) + " " + rest;
  }
  TemporaryFolder dir;
};

TEST_F(LanguageCli, FromScratchThenAdapted) {
  begin();
  const std::string scratch = "--method full --steps 40 --lr 1e-2 --output " + (dir / "base");
  const Result missing = graft(tune("start", "animals", scratch));
  EXPECT_EQ(missing.status, 3) << "weights are not drawn unless that is asked for";
  EXPECT_NE(missing.output.find("model.safetensors"), std::string::npos) << missing.output;
  EXPECT_EQ(graft(tune("start", "animals", "--from-scratch --output " + (dir / "base"))).status, 2)
      << "LoRA does not train all of it";

  const Result base = graft(tune("start", "animals", "--from-scratch " + scratch), Streams::out);
  ASSERT_EQ(base.status, 0) << base.output;
  const double learned = perplexity(base.json());
  EXPECT_LT(learned, 3);
  EXPECT_EQ(graft("inspect --json " + (dir / "base"), Streams::out).json().at("whole"), true);
  EXPECT_EQ(parse_json_file(dir / "base/run.json").at("recipe").at("from_scratch"), true);

  const std::string lm = " --task lm --max-length 32 --train " + (dir / "animals.txt");
  const Result eval =
      graft("eval --json --model " + (dir / "base") + lm + " --also-test " + (dir / "food.txt"),
            Streams::out);
  ASSERT_EQ(eval.status, 0) << eval.output;
  EXPECT_DOUBLE_EQ(perplexity(eval.json()), learned);
  const double unknown = perplexity(eval.json(), "also_metrics");
  EXPECT_GT(unknown, 10 * learned);

  const Result lora = graft(tune("base", "food",
                                 "--method lora --steps 20 --lr 2e-2 --also-test " +
                                     (dir / "animals.txt") + " --output " + (dir / "lora")),
                            Streams::out);
  ASSERT_EQ(lora.status, 0) << lora.output;
  EXPECT_LT(perplexity(lora.json()), unknown / 3);
  EXPECT_GT(perplexity(lora.json(), "also_metrics"), learned) << "some of it is forgotten";
  EXPECT_EQ(parse_json_file(dir / "lora/adapter_config.json").at("task_type"), "CAUSAL_LM");

  const Result merged = graft("merge --json --model " + (dir / "base") + " --adapter " +
                                  (dir / "lora") + " --output " + (dir / "merged"),
                              Streams::out);
  ASSERT_EQ(merged.status, 0) << merged.output;
  const std::string food = " --task lm --max-length 32 --train " + (dir / "food.txt");
  const Result with =
      graft("eval --json --model " + (dir / "base") + " --adapter " + (dir / "lora") + food,
            Streams::out);
  const Result folded = graft("eval --json --model " + (dir / "merged") + food, Streams::out);
  EXPECT_DOUBLE_EQ(perplexity(with.json()), perplexity(lora.json()));
  EXPECT_NEAR(perplexity(folded.json()), perplexity(with.json()), 1e-4 * perplexity(with.json()));
}

TEST_F(LanguageCli, GeneratesWithAdaptersAndMerged) {
  begin();
  const std::string base = "--steps 30 --lr 1e-2 --method full --from-scratch --output ";
  ASSERT_EQ(graft(tune("start", "animals", base + (dir / "base"))).status, 0);
  for (const char* method : {"lora", "prompt_tuning", "prefix_tuning"}) {
    const std::string rest = fmt::format("--method {} --steps 10 --output ", method);
    ASSERT_EQ(graft(tune("base", "food", rest + (dir / method))).status, 0) << method;
  }
  const auto generate = [&](const std::string& rest) {
    const Result r = graft("generate --json --max-new-tokens 12 --prompt 'the old' --model " +
                               (dir / "base") + " " + rest,
                           Streams::out);
    EXPECT_EQ(r.status, 0) << r.output;
    return r.json();
  };
  const Json plain = generate("");
  EXPECT_NE(plain.at("text").get<std::string>().find("cat"), std::string::npos) << plain;
  EXPECT_EQ(generate("--temperature 1 --seed 4").at("tokens"),
            generate("--temperature 1 --seed 4").at("tokens"));
  // Up to the stop text, without it.
  const std::string cut = generate("--stop ' saw'").at("text");
  EXPECT_EQ(plain.at("text").get<std::string>().substr(0, cut.size()), cut);
  EXPECT_EQ(cut.find(" saw"), std::string::npos);
  const Json two = generate("--prompt 'bread and'");
  EXPECT_EQ(two.at("rows").at(0).at("tokens"), plain.at("tokens"));
  for (const char* method : {"lora", "prompt_tuning", "prefix_tuning"})
    EXPECT_GE(generate(std::string("--adapter ") + (dir / method)).at("tokens").size(), 1u);
  ASSERT_EQ(graft("merge --model " + (dir / "base") + " --adapter " + (dir / "lora") +
                  " --output " + (dir / "merged"))
                .status,
            0);
  const Result merged =
      graft("generate --json --max-new-tokens 12 --prompt 'the old' --model " + (dir / "merged"),
            Streams::out);
  EXPECT_EQ(merged.json().at("tokens"), generate("--adapter " + (dir / "lora")).at("tokens"));
  EXPECT_EQ(graft("generate --model " + (dir / "base")).status, 2);
}

TEST_F(LanguageCli, CompareShowsGainAndForgetting) {
  begin();
  ASSERT_EQ(
      graft(tune("start", "animals",
                 "--from-scratch --method full --steps 30 --lr 1e-2 --output " + (dir / "base")))
          .status,
      0);
  const Result r = graft(
      "compare --json --methods full,lora,prefix_tuning --steps 3 --batch 8 "
      "--max-length 32 --task lm --train " +
          (dir / "food.txt") + " --also-test " + (dir / "animals.txt") + " --model " +
          (dir / "base") + " --output " + (dir / "out"),
      Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  const Json j = r.json();
  EXPECT_EQ(j.at("metric"), "perplexity");
  EXPECT_EQ(j.at("also"), "animals");
  const double before = perplexity(j.at("base"));
  for (const Json& row : j.at("rows")) {
    EXPECT_LT(row.at("metric_mean").get<double>(), before) << row.at("method");
    EXPECT_GT(row.at("also_mean").get<double>(), 0) << row.at("method");
    EXPECT_GT(row.at("storage_bytes").get<double>(), 0) << row.at("method");
  }
  EXPECT_TRUE(std::filesystem::exists(dir / "out/full/model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(dir / "out/lora/adapter_model.safetensors"));
  EXPECT_NE(read_file(dir / "out/report.html").find("lower is better"), std::string::npos);
}

// A LLaMA has no biases and no layer norms, and no head that training begins with.
TEST_F(LanguageCli, CompareLeavesOutWhatDoesNotFit) {
  begin();
  ASSERT_EQ(graft(tune("start", "animals",
                       "--from-scratch --method full --steps 2 --output " + (dir / "base")))
                .status,
            0);
  const auto compare = [&](const std::string& rest, Streams streams) {
    return graft("compare --steps 2 --batch 4 --train-size 8 --max-length 16 --task lm --train " +
                     (dir / "food.txt") + " --model " + (dir / "base") + " --output " +
                     (dir / "out") + " " + rest,
                 streams);
  };
  const std::map<std::string, const char*> reasons = {
      {"head", "finds nothing to train in a llama model"},
      {"bitfit", "no biases"},
      {"unipelt", "is a mean over all tokens"},
      {"compacter", "phm_dim 4 must divide the width 32 and the bottleneck 1"},
      {"compacter++", "phm_dim 4 must divide the width 32 and the bottleneck 1"},
      {"lst", "lst on a llama model: 'model.layers.0.self_attn.q_proj' reads the result of"}};
  const Result r = compare("--json --methods all", Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  const Json j = r.json();
  std::set<std::string> known;
  for (const Json& row : j.at("rows")) known.insert(row.at("method"));
  EXPECT_TRUE(known.contains("lora") && known.contains("diff_pruning"));
  const std::string page = read_file(dir / "out/report.html");
  for (const Json& m : j.at("left_out")) {
    const auto name = m.at("method").get<std::string>();
    EXPECT_TRUE(known.insert(name).second) << name << " is trained, too";
    ASSERT_TRUE(reasons.contains(name)) << m;
    EXPECT_NE(m.at("reason").get<std::string>().find(reasons.at(name)), std::string::npos) << m;
    EXPECT_NE(page.find("<li><b>" + name), std::string::npos) << name;
  }
  EXPECT_EQ(j.at("left_out").size(), reasons.size());
  EXPECT_EQ(known.size(), graft("methods --json", Streams::out).json().at("methods").size());

  const Result named = compare("--methods lora,bitfit", Streams::both);
  EXPECT_EQ(named.status, 2);
  EXPECT_NE(named.output.find("no biases"), std::string::npos) << named.output;
  const Result both = compare("--methods bitfit,all", Streams::both);
  EXPECT_EQ(both.status, 2) << "a method that is named has to fit";
}

// Prompts and completions, in columns of any name.
TEST_F(LanguageCli, PromptsAndCompletions) {
  begin();
  std::string jsonl;
  for (int i = 0; i < 80; ++i)
    jsonl +=
        Json{{"ask", fmt::format("cat {}:", i)}, {"say", i % 2 == 0 ? " old" : " young"}}.dump() +
        "\n";
  write_file(dir / "cats.jsonl", jsonl);
  const Result r = graft(
      "tune --json --method full --from-scratch --steps 30 --batch 8 --lr 1e-2 "
      "--task " +
          (dir / "cats.jsonl") +
          " --prompt-column ask --completion-column say "
          "--model " +
          (dir / "start") + " --output " + (dir / "out"),
      Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_LT(perplexity(r.json()), 2.2) << "one of two words, and the end";
}

}  // namespace
}  // namespace graft::testing
