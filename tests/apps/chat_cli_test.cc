// Conversations from the command line: a model learns to answer, and is asked.
#include <gtest/gtest.h>

#include <filesystem>

#include "models/tokenizer/bpe_train.h"
#include "tests/apps/program.h"

namespace graft::testing {
namespace {

constexpr const char* kConfig = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
  "num_attention_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": true,
  "bos_token_id": 0, "eos_token_id": 0})";

constexpr const char* kChatml =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

class ChatCli : public ::testing::Test {
 protected:
  // A folder with a configuration, a tokenizer of bytes and a chat template, without weights; and
  // conversations.
  ChatCli() {
    const BpeTrainer trainer({.vocabulary_size = 259,
                              .special_tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}});
    std::filesystem::create_directory(dir / "start");
    write_json_file(dir / "start/tokenizer.json", trainer.train());
    write_json_file(dir / "start/tokenizer_config.json", {{"chat_template", kChatml}});
    write_file(dir / "start/config.json", kConfig);
    std::string messages, prompts;
    for (int i = 0; i < 160; ++i) {
      const std::string question = fmt::format("{} {}", i % 2 == 0 ? "cat" : "dog", i / 2);
      const std::string answer = i % 2 == 0 ? "meow" : "woof";
      messages += Json{{"messages",
                        {{{"role", "user"}, {"content", question}},
                         {{"role", "assistant"}, {"content", answer}}}}}
                      .dump() +
                  "\n";
      prompts += Json{{"prompt", question}, {"completion", answer}}.dump() + "\n";
    }
    write_file(dir / "talk.jsonl", messages);
    write_file(dir / "pairs.jsonl", prompts);
  }

  Result tune(const std::string& rest) {
    return graft(
        "tune --json --batch 16 --max-length 64 --method full --from-scratch --steps 60 "
        "--lr 1e-2 --model " +
            (dir / "start") + " " + rest,
        Streams::out);
  }
  TemporaryFolder dir;
};

TEST_F(ChatCli, LearnsToAnswer) {
  const Result r = tune("--task " + (dir / "talk.jsonl") + " --output " + (dir / "out"));
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_LT(r.json().at("metrics").at("perplexity").get<double>(), 1.2)
      << "the answer and its end alone are asked for";
  const std::string model = " --model " + (dir / "out");

  const Result answers =
      graft("generate --json --chat --prompt 'cat 7' --prompt 'dog 9'" + model, Streams::out);
  ASSERT_EQ(answers.status, 0) << answers.output;
  const Json rows = answers.json().at("rows");
  EXPECT_EQ(rows.at(0).at("text"), "meow");
  EXPECT_EQ(rows.at(1).at("text"), "woof");
  EXPECT_EQ(rows.at(0).at("tokens").size(), 5u) << "it stops at the end of the turn";
  // The answer alone is shown.
  EXPECT_EQ(graft("generate --chat --prompt 'cat 7'" + model, Streams::out).output, "meow\n");
  EXPECT_EQ(graft("generate --chat-template chatml --prompt 'cat 7' --prompt 'dog 9'" + model,
                  Streams::out)
                .output,
            "meow\nwoof\n");
  EXPECT_EQ(graft("generate --chat --system 'Be brief.' --prompt 'cat 7'" + model).status, 0);

  // The same rows as prompts and completions, written as the model's template says.
  const Result eval = graft(
      "eval --json --chat-template auto --task " + (dir / "pairs.jsonl") + model, Streams::out);
  ASSERT_EQ(eval.status, 0) << eval.output;
  EXPECT_LT(eval.json().at("metrics").at("perplexity").get<double>(), 1.2);
}

// Marks that the tokenizer does not know are text, and end an answer as such.
TEST_F(ChatCli, TemplateOfAnotherModel) {
  const Result r =
      tune("--chat-template phi3 --task " + (dir / "pairs.jsonl") + " --output " + (dir / "out"));
  ASSERT_EQ(r.status, 0) << r.output;
  EXPECT_EQ(parse_json_file(dir / "out/run.json").at("data").at("chat_template"), "phi3");
  const Result answer = graft(
      "generate --chat-template phi3 --prompt 'dog 3' --model " + (dir / "out"), Streams::out);
  EXPECT_EQ(answer.output, "woof\n");
}

TEST_F(ChatCli, RefusalsNameTheOption) {
  const std::string task = " --task " + (dir / "talk.jsonl") + " --output " + (dir / "out");
  EXPECT_EQ(tune("--chat-template parrot" + task).status, 2);
  write_file(dir / "start/chat_template.jinja", "{{ messages }}");
  const Result unknown = graft("tune --model " + (dir / "start") + task);
  EXPECT_EQ(unknown.status, 2);
  EXPECT_NE(unknown.output.find("chat_template.jinja: the chat template is none of those known"),
            std::string::npos)
      << unknown.output;
  EXPECT_NE(unknown.output.find("--chat-template NAME: chatml"), std::string::npos);
  const std::string ask = "generate --prompt 'cat 1' --model " + (dir / "start");
  EXPECT_EQ(graft(ask + " --chat").status, 2);
  EXPECT_NE(graft(ask + " --system 'Be brief.'").output.find("it goes with --chat"),
            std::string::npos);
  EXPECT_NE(graft(ask + " --chat-template gemma --system ''").output.find("no system message"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::testing
