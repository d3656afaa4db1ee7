// An encoder-decoder from the command line: from nothing by filling in what was cut out, then
// adapted to a labelled task whose labels it says.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/apps/program.h"

namespace graft::testing {
namespace {

constexpr const char* kConfig =
    R"({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": 320,
  "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2,
  "feed_forward_proj": "relu", "tie_word_embeddings": true, "is_encoder_decoder": true,
  "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0})";

class TextToTextCli : public ::testing::Test {
 protected:
  // A vocabulary, a text, a table whose label is the last word's kind, and a model of the text.
  void begin() {
    std::string text, table = "text,label\n";
    const char* const things[] = {"dog", "bread", "cat", "soup", "cow", "honey"};
    for (int i = 0; i < 300; ++i) {
      text += fmt::format("the old {} is here\n", things[i % 6]);
      table += fmt::format("{} {},{}\n", i, things[i % 6], i % 2 == 0 ? "animal" : "food");
    }
    write_file(dir / "text.txt", text);
    write_file(dir / "kinds.csv", table);
    Result r = graft("train-tokenizer --json --size 320 --sentinels 10 --output " +
                         (dir / "start") + " " + (dir / "text.txt") + " " + (dir / "kinds.csv"),
                     Streams::out);
    ASSERT_EQ(r.status, 0) << r.output;
    write_file(dir / "start/config.json", kConfig);
    r = graft(
        "tune --json --from-scratch --method full --steps 20 --lr 1e-2 --batch 16 "
        "--max-length 32 --task lm --train " +
            (dir / "text.txt") + " --model " + (dir / "start") + " --output " + (dir / "base"),
        Streams::out);
    ASSERT_EQ(r.status, 0) << r.output;
    EXPECT_LT(r.json().at("metrics").at("perplexity").get<double>(), 60) << "of 320 tokens";
  }
  Json tune(const std::string& method, const std::string& rest) {
    const Result r = graft("tune --json --text-to-text --batch 16 --task " + (dir / "kinds.csv") +
                               " --model " + (dir / "base") + " --method " + method + " --output " +
                               (dir / method) + " " + rest,
                           Streams::out);
    EXPECT_EQ(r.status, 0) << r.output;
    return r.status == 0 ? r.json() : Json();
  }
  TemporaryFolder dir;
};

double accuracy(const Json& j) { return j.at("metrics").at("accuracy").get<double>(); }

TEST_F(TextToTextCli, LearnsToSayTheLabel) {
  begin();
  EXPECT_GT(accuracy(tune("full", "--steps 100 --lr 5e-3 --eval-every 30")), 0.95);
  EXPECT_EQ(parse_json_file(dir / "full/run.json").at("data").at("text_to_text"), true);
  EXPECT_EQ(parse_json_file(dir / "full/config.json").at("architectures").at(0),
            "T5ForConditionalGeneration");

  const double adapted = accuracy(tune("lora", "--steps 200 --lr 1e-2"));
  EXPECT_GT(adapted, 0.8);
  EXPECT_EQ(parse_json_file(dir / "lora/adapter_config.json").at("task_type"), "SEQ_2_SEQ_LM");
  const std::string task = " --text-to-text --task " + (dir / "kinds.csv");
  const auto eval = [&](const std::string& of) {
    const Result r = graft("eval --json --model " + of + task, Streams::out);
    EXPECT_EQ(r.status, 0) << r.output;
    return accuracy(r.json());
  };
  EXPECT_EQ(eval((dir / "base") + " --adapter " + (dir / "lora")), adapted);

  Result r = graft("merge --json --model " + (dir / "base") + " --adapter " + (dir / "lora") +
                       " --output " + (dir / "merged"),
                   Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_LT(r.json().at("max_abs_difference").get<double>(), 1e-3);
  EXPECT_EQ(eval(dir / "merged"), adapted);

  r = graft("generate --prompt 'kinds sentence: 7 soup' --model " + (dir / "full"), Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_EQ(r.output, "food\n") << "the answer alone";
}

TEST_F(TextToTextCli, EveryKindOfMethodAnswers) {
  begin();
  const Result r = graft(
      "compare --json --methods lora,ia3,prompt_tuning,prefix_tuning,houlsby "
      "--steps 3 --batch 16 --text-to-text --task " +
          (dir / "kinds.csv") + " --model " + (dir / "base") + " --output " + (dir / "out"),
      Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  const Json j = r.json();
  EXPECT_EQ(j.at("metric"), "accuracy");
  EXPECT_TRUE(j.at("base").at("metrics").contains("accuracy"))
      << "the model can be asked before training";
  EXPECT_EQ(j.at("rows").size(), 5u);
  for (const char* method : {"prompt_tuning", "prefix_tuning", "houlsby"}) {
    const Result said = graft(
        "generate --json --max-new-tokens 4 --prompt 'kinds sentence: 1 cat' "
        "--model " +
            (dir / "base") + " --adapter " + (dir / "out/") + method,
        Streams::out);
    EXPECT_EQ(said.status, 0) << method << said.output;
  }
}

TEST_F(TextToTextCli, AnEncoderSaysNothing) {
  begin();
  write_file(dir / "start/config.json",
             R"({"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 320,
  "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
  "max_position_embeddings": 64, "type_vocab_size": 2})");
  const Result r =
      graft("tune --from-scratch --method full --text-to-text --steps 1 --task " +
            (dir / "kinds.csv") + " --model " + (dir / "start") + " --output " + (dir / "out"));
  EXPECT_EQ(r.status, 2);
  EXPECT_NE(r.output.find("models of type bert have none"), std::string::npos) << r.output;
}

TEST_F(TextToTextCli, ConversationsAreForDecoders) {
  begin();
  write_file(
      dir / "talk.jsonl",
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})");
  const Result r =
      graft("tune --method full --steps 1 --chat-template chatml --task " + (dir / "talk.jsonl") +
            " --model " + (dir / "base") + " --output " + (dir / "out"));
  EXPECT_EQ(r.status, 2);
  EXPECT_NE(r.output.find("conversations are for decoders"), std::string::npos) << r.output;
}

}  // namespace
}  // namespace graft::testing
