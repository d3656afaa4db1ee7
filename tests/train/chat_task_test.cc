// Conversations as rows of a task: what is predicted, what is cut off, what is refused.
#include "train/chat_task.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/atomic_file.h"
#include "models/tokenizer/bpe_train.h"
#include "tests/support/temporary_folder.h"
#include "train/language_task.h"

namespace graft::testing {
namespace {

// One token a byte, and the marks of turns.
const Tokenizer& bytes() {
  static const auto t = parse_tokenizer_json(
      json_text(BpeTrainer({.vocabulary_size = 260,
                            .special_tokens = {"</s>", "<s>", "<|im_start|>", "<|im_end|>"}})
                    .train()),
      "bytes");
  return *t;
}

std::string text_of_ids(const std::vector<int64_t>& ids) { return bytes().decode(ids, false); }

// What a row asks for, with a bar before each stretch.
std::string asked(const Example& x) {
  std::string out;
  std::vector<int64_t> ids;
  for (size_t i = 0; i <= x.next.size(); ++i) {
    if (i < x.next.size() && x.next[i] != kNoLabel) {
      ids.push_back(x.next[i]);
    } else if (!ids.empty()) {
      out += "|" + text_of_ids(ids);
      ids.clear();
    }
  }
  return out;
}

const Conversation kTalk = {
    {"user", "Hi"}, {"assistant", "Hello"}, {"user", "2+3?"}, {"assistant", "five"}};

struct Row {
  const char *name, *chat;
  Conversation conversation;
  int64_t max_length;
  std::string read, asked;
};

class ChatRows : public ::testing::TestWithParam<Row> {};

TEST_P(ChatRows, AskForAnswers) {
  const Row& c = GetParam();
  const Example x =
      chat_row("a", c.conversation, find_chat_template(c.chat), bytes(), c.max_length, "here");
  EXPECT_EQ(text_of_ids(x.ids), c.read);
  EXPECT_EQ(asked(x), c.asked);
  ASSERT_EQ(x.ids.size(), x.next.size());
  EXPECT_LE(static_cast<int64_t>(x.ids.size()), c.max_length);
  // Marks are of no text.
  std::string text = c.asked;
  for (const char* mark : {"|</s>", "</s>", "<|im_end|>", "|"}) {
    for (size_t at; (at = text.find(mark)) != std::string::npos;) text.erase(at, strlen(mark));
  }
  EXPECT_EQ(x.bytes, static_cast<int64_t>(text.size()));
}

// The last token of a row is only predicted: it stands in `asked` and not in `read`.
INSTANTIATE_TEST_SUITE_P(
    All, ChatRows,
    ::testing::Values(Row{"EveryAnswer", "chatml", kTalk, 1000,
                          "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
                          "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\nfive",
                          "|Hello<|im_end|>|five<|im_end|>"},
                      Row{"NothingBehindTheLastAnswer",
                          "mistral",
                          {{"user", "Hi"}, {"assistant", "Hello"}, {"user", "2+3?"}},
                          1000,
                          "<s>[INST] Hi [/INST]Hello",
                          "|Hello</s>"},
                      Row{"SpaceOfTheTemplate", "llama2", kTalk, 1000,
                          "<s>[INST] Hi [/INST] Hello </s><s>[INST] 2+3? [/INST] five ",
                          "| Hello </s>| five </s>"},
                      Row{"FitsExactly",
                          "mistral",
                          {{"user", "Hi"}, {"assistant", "yes"}},
                          21,
                          "<s>[INST] Hi [/INST]yes",
                          "|yes</s>"},
                      Row{"LosesItsBeginning", "mistral", kTalk, 11, "<s>/INST]five", "|five</s>"},
                      Row{"ThenTheEndOfTheAnswer", "mistral", kTalk, 4, "<s>fiv", "|five"},
                      Row{"WithoutABeginToken", "chatml", kTalk, 4, "\nfiv", "|five"},
                      Row{"InsideAnEarlierAnswer", "mistral", kTalk, 27,
                          "<s>lo</s>[INST] 2+3? [/INST]five", "|o</s>|five</s>"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Conversations, BothForms) {
  for (const char* json : {R"([{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a", "name": "x"}])",
                           R"([{"from": "system", "value": "s"}, {"from": "human", "value": "u"},
            {"from": "gpt", "value": "a"}])"}) {
    const Conversation c = read_conversation(json, "here");
    ASSERT_EQ(c.size(), 3u);
    EXPECT_EQ(c[0].role + c[1].role + c[2].role, "systemuserassistant");
    EXPECT_EQ(c[0].content + c[1].content + c[2].content, "sua");
  }
}

std::string line(const char* column, const std::string& question, const std::string& answer) {
  return Json{{column,
               {{{"role", "user"}, {"content", question}},
                {{"role", "assistant"}, {"content", answer}}}}}
             .dump() +
         "\n";
}

TEST(ChatTasks, OfFiles) {
  const TemporaryFolder dir;
  std::string messages, conversations, prompts;
  for (int i = 0; i < 60; ++i) {
    const std::string question = fmt::format("{}+1?", i), answer = fmt::format("{}", i + 1);
    messages += line("messages", question, answer);
    conversations += line("talk", question, answer);
    prompts += Json{{"prompt", question}, {"completion", answer}}.dump() + "\n";
  }
  write_file(dir / "a.jsonl", messages);
  write_file(dir / "b.jsonl", conversations);
  write_file(dir / "c.jsonl", prompts);
  TaskOptions o;
  o.chat_template = "chatml";
  const Task a = load_task(dir / "a.jsonl", bytes(), o);
  EXPECT_EQ(a.kind, TaskKind::language);
  EXPECT_EQ(a.train.size() + a.dev.size() + a.test.size(), 60u);
  EXPECT_FALSE(a.test.empty());
  // Questions and answers in columns are the same conversations.
  const Task c = load_task(dir / "c.jsonl", bytes(), o);
  ASSERT_EQ(c.train.size() + c.dev.size() + c.test.size(), 60u);
  std::map<std::string, std::vector<int64_t>> rows;
  for (const auto* part : {&a.train, &a.dev, &a.test}) {
    for (const Example& x : *part) rows[x.id] = x.ids;
  }
  for (const Example& x : c.train) EXPECT_EQ(rows.at(x.id), x.ids);
  o.messages_column = "talk";
  EXPECT_EQ(load_task(dir / "b.jsonl", bytes(), o).train.size(), a.train.size());
  // Development and test rows of their own, and the model's own template.
  TaskOptions named;
  named.model_folder = dir / ".";
  named.dev = named.test = named.also_test = dir / "a.jsonl";
  write_file(dir / "chat_template.jinja",
             "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
             "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}"
             "{{ message['content'] + eos_token}}{% endif %}{% endfor %}");
  const Task all = load_task(dir / "a.jsonl", bytes(), named);
  EXPECT_EQ(all.train.size(), 60u);
  EXPECT_EQ(all.dev.size(), 60u);
  EXPECT_EQ(all.also.size(), 60u);
  EXPECT_EQ(text_of_ids(all.train[0].ids), "<s>[INST] 0+1? [/INST]1");
}

TEST(ChatTasks, RefusalsSayWhere) {
  struct Case {
    const char *content, *message;
  };
  const Case cases[] = {
      {R"({"messages": []})", "a.jsonl:1: expected a list of messages"},
      {R"({"messages": "hi"})", "a.jsonl:1: line 1"},
      {R"({"messages": {"role": "user"}})", "a.jsonl:1: expected a list of messages"},
      {R"({"messages": [7]})", "a.jsonl:1: message 1: the field 'role' is missing"},
      {R"({"messages": [{"role": "user"}]})", "message 1: the field 'content' is missing"},
      {R"({"messages": [{"role": "user", "content": [1]}]})", "'content' should be a string"},
      {R"({"messages": [{"role": "tool", "content": ""}]})", "message 1 has the role 'tool'"},
      {R"({"conversations": [{"from": "bing", "value": ""}]})", "message 1 has the role 'bing'"},
      {R"({"messages": [{"role": "user", "content": "a"}]})",
       "a.jsonl:1: the assistant says nothing"},
      {R"({"messages": [{"role": "assistant", "content": "a"}]})",
       "a.jsonl:1: message 1 is of the assistant"}};
  for (const Case& c : cases) {
    const TemporaryFolder dir;
    write_file(dir / "a.jsonl", c.content);
    TaskOptions o;
    o.chat_template = "llama2";
    const std::string error = error_of<FileError>([&] { load_task(dir / "a.jsonl", bytes(), o); });
    EXPECT_NE(error.find(c.message), std::string::npos) << c.message << ": " << error;
  }
}

TEST(ChatTasks, WrongOptions) {
  const TemporaryFolder dir;
  write_file(dir / "a.jsonl", line("messages", "a", "b"));
  write_file(dir / "b.csv", "text,label\na,0\nb,1\n");
  write_file(dir / "c.txt", "some text");
  auto message = [&](const std::string& spec, const TaskOptions& o) {
    return error_of<UsageError>([&] { load_task(spec, bytes(), o); });
  };
  EXPECT_NE(message(dir / "a.jsonl", {}).find("--chat-template NAME: chatml"), std::string::npos);
  EXPECT_NE(message(dir / "a.jsonl", {.chat_template = "x"}).find("'x' is not known"),
            std::string::npos);
  EXPECT_NE(message(dir / "a.jsonl", {.model_folder = dir / "."}).find("has no chat template"),
            std::string::npos);
  for (const std::string& spec : {dir / "b.csv", std::string("wordnet:nli"), std::string("lm")}) {
    TaskOptions o;
    o.chat_template = "chatml";
    if (spec == "lm") o.train = {dir / "c.txt"};
    EXPECT_NE(message(spec, o).find("--chat-template is for conversations"), std::string::npos)
        << spec;
  }
}

}  // namespace
}  // namespace graft::testing
