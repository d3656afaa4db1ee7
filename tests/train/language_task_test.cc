// Text as rows of tokens: what is predicted from what, what is held out, what is refused.
#include "train/language_task.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/atomic_file.h"
#include "models/tokenizer/bpe_train.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

// One token a byte, and the end of a text.
const Tokenizer& bytes() {
  static const auto t = parse_tokenizer_json(
      json_text(BpeTrainer({.vocabulary_size = 257, .special_tokens = {"<|endoftext|>"}}).train()),
      "bytes");
  return *t;
}

const Tokenizer& wordpiece() {
  static const auto t = load_tokenizer(golden_dir() + "/tokenizers/bert_wordpiece");
  return *t;
}

std::string text_of(const Tokenizer& t, std::span<const int64_t> ids) {
  return t.decode(ids, false);
}

// What a row asks for, as text.
std::string asked(const Tokenizer& t, const Example& x) {
  std::vector<int64_t> ids;
  std::ranges::copy_if(x.next, std::back_inserter(ids), [](int64_t id) { return id != kNoLabel; });
  return text_of(t, ids);
}

TEST(PackedRows, EveryTokenButTheFirstIsPredictedOnce) {
  const std::string_view texts[] = {"abcdefg", "hi\xC3\xA9"};
  const auto rows = pack_rows(texts, bytes(), 4);
  std::string read, predicted;
  int64_t length = 0;
  for (const Example& x : rows) {
    ASSERT_EQ(x.ids.size(), x.next.size());
    EXPECT_LE(x.ids.size(), 4u);
    for (size_t t = 0; t + 1 < x.ids.size(); ++t) EXPECT_EQ(x.next[t], x.ids[t + 1]);
    read += text_of(bytes(), x.ids);
    length += x.bytes;
  }
  std::vector<int64_t> all;
  for (const Example& x : rows) all.insert(all.end(), x.next.begin(), x.next.end());
  EXPECT_EQ(text_of(bytes(), all), "bcdefg<|endoftext|>hi\u00e9<|endoftext|>");
  EXPECT_EQ(rows.front().ids.size(), 4u);
  EXPECT_EQ(rows.back().ids.size(), 12u % 4 == 0 ? 4u : 12u % 4);
  EXPECT_EQ(length, 6 + 4) << "bytes of text, an end token having none";
}

// Spaces belong to the word behind them, whether a token stands for them or not.
TEST(PackedRows, BytesAreThoseOfTheText) {
  const std::string_view text = "Hello there,  unaffable \u00fcbermensch\n";
  for (const int64_t length : {3, 100}) {
    int64_t sum = 0;
    for (const Example& x : pack_rows({&text, 1}, wordpiece(), length)) sum += x.bytes;
    EXPECT_EQ(sum, static_cast<int64_t>(text.size()) - 1) << "all but the line end";
  }
}

struct Prompted {
  const char* name;
  std::string prompt, completion;
  int64_t max_length;
  std::string read, asked;
};

class PromptedRows : public ::testing::TestWithParam<Prompted> {};

TEST_P(PromptedRows, AskForTheCompletion) {
  const Prompted& c = GetParam();
  const Example x = prompted_row("a", c.prompt, c.completion, bytes(), c.max_length);
  EXPECT_EQ(text_of(bytes(), x.ids), c.read);
  EXPECT_EQ(asked(bytes(), x), c.asked);
  ASSERT_EQ(x.ids.size(), x.next.size());
  EXPECT_LE(static_cast<int64_t>(x.ids.size()), c.max_length);
  for (size_t t = 0; t + 1 < x.ids.size(); ++t) {
    EXPECT_TRUE(x.next[t] == kNoLabel || x.next[t] == x.ids[t + 1]) << t;
  }
  // Of the asked text the part that is not the end token.
  EXPECT_EQ(x.bytes, static_cast<int64_t>(c.asked.find("<|end") == std::string::npos
                                              ? c.asked.size()
                                              : c.asked.find("<|end")));
}

INSTANTIATE_TEST_SUITE_P(
    All, PromptedRows,
    ::testing::Values(Prompted{"Fits", "2+3=", "5", 64, "2+3=5", "5<|endoftext|>"},
                      Prompted{"FitsExactly", "2+3=", "5", 5, "2+3=5", "5<|endoftext|>"},
                      Prompted{"LongPrompt", "a long prompt:", "yes", 6, "pt:yes",
                               "yes<|endoftext|>"},
                      Prompted{"LongCompletion", "a:", "continued", 4, ":con", "cont"},
                      Prompted{"BothLong", "prompt", "completion", 3, "tco", "com"}),
    [](const auto& row) { return std::string(row.param.name); });

// A scheme with tokens around a text: the first stays, the last closes the completion.
TEST(PromptedRows, TokensAroundTheText) {
  const Example x = prompted_row("a", "the black cat", " sat on it", wordpiece(), 6);
  EXPECT_EQ(x.ids[0], wordpiece().id_of("[CLS]"));
  EXPECT_EQ(x.next.back(), wordpiece().id_of("[SEP]"));
  const auto words = wordpiece().encode("sat on it", false).ids;
  std::vector<int64_t> wanted(words);
  wanted.push_back(wordpiece().id_of("[SEP]"));
  std::vector<int64_t> got;
  for (const int64_t id : x.next) {
    if (id != kNoLabel) got.push_back(id);
  }
  EXPECT_EQ(got, wanted);
}

TEST(HeldOut, PartsAreTheWholeText) {
  std::string lines, line;
  for (int i = 0; i < 30000; ++i) lines += fmt::format("line {}\n", i * 7919 % 30011);
  line.assign(5000, 'x');
  for (const std::string& text : {lines, line, std::string("a b c d e f g h i j k l m n o p q r"),
                                  std::string("\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9")}) {
    const TextParts parts = held_out(text);
    std::vector<std::string_view> all;
    for (const auto* part : {&parts.train, &parts.dev, &parts.test})
      all.insert(all.end(), part->begin(), part->end());
    std::ranges::sort(all, {}, [](std::string_view v) { return v.data(); });
    std::string joined;
    for (const std::string_view v : all) {
      EXPECT_TRUE(v.empty() || (static_cast<unsigned char>(v[0]) & 0xC0) != 0x80);
      joined += v;
    }
    EXPECT_EQ(joined, text);
  }
  const TextParts parts = held_out(lines);
  for (const auto* part : {&parts.dev, &parts.test}) {
    size_t size = 0;
    for (const std::string_view v : *part) {
      EXPECT_TRUE(v.ends_with("\n"));
      size += v.size();
    }
    EXPECT_NEAR(static_cast<double>(size), static_cast<double>(lines.size()) / 10,
                static_cast<double>(lines.size()) / 20);
  }
}

TEST(LanguageMetrics, AreThoseOfAllTokens) {
  Example a, b;
  a.next = {5, kNoLabel, 6};
  a.bytes = 4;
  b.next = {7};
  b.bytes = 2;
  const auto m = language_metrics(std::vector<Example>{a, b}, std::vector<double>{1.5, 0.6});
  EXPECT_DOUBLE_EQ(m.at("perplexity"), std::exp(2.1 / 3));
  EXPECT_DOUBLE_EQ(m.at("bits_per_byte"), 2.1 / std::log(2.0) / 6);
  EXPECT_TRUE(std::isnan(language_metrics({}, {}).at("perplexity")));
}

TEST(LanguageTasks, PartsOfFiles) {
  const TemporaryFolder dir;
  std::string text;
  for (int i = 0; i < 400; ++i) text += fmt::format("the line {} of a text\n", i);
  write_file(dir / "a.txt", text);
  write_file(dir / "short.txt", "\xEF\xBB\xBFok");
  TaskOptions o;
  o.train = {dir / "a.txt"};
  o.also_test = dir / "short.txt";
  const Task cut = load_task("lm", bytes(), o);
  EXPECT_EQ(cut.kind, TaskKind::language);
  EXPECT_EQ(cut.name, "a");
  EXPECT_EQ(cut.metric, "perplexity");
  EXPECT_FALSE(cut.dev.empty());
  EXPECT_FALSE(cut.test.empty());
  EXPECT_EQ(cut.also_name, "short");
  ASSERT_EQ(cut.also.size(), 1u) << "a text shorter than a row is one";
  EXPECT_EQ(asked(bytes(), cut.also[0]), "k<|endoftext|>");

  o.test = dir / "short.txt";
  const Task given = load_task("lm", bytes(), o);
  EXPECT_TRUE(given.dev.empty());
  EXPECT_GT(given.train.size(), cut.train.size());
  o.train.clear();
  EXPECT_TRUE(load_task("lm", bytes(), o).train.empty()) << "enough to evaluate";

  std::string jsonl, csv = "question,answer\n";
  for (int i = 0; i < 60; ++i) {
    jsonl += fmt::format("{{\"prompt\": \"{}+1=\", \"completion\": \"{}\"}}\n", i, i + 1);
    csv += fmt::format("{}+1=,{}\n", i, i + 1);
  }
  write_file(dir / "sums.jsonl", jsonl);
  write_file(dir / "sums.csv", csv);
  const Task sums = load_task(dir / "sums.jsonl", bytes(), {});
  EXPECT_EQ(sums.kind, TaskKind::language);
  EXPECT_EQ(sums.train.size() + sums.dev.size() + sums.test.size(), 60u);
  EXPECT_FALSE(sums.test.empty());
  TaskOptions named;
  named.prompt_column = "question";
  named.completion_column = "answer";
  EXPECT_EQ(load_task(dir / "sums.csv", bytes(), named).train.size(), sums.train.size());
}

struct Refused {
  const char* name;
  std::string file, content, message;
};

class BadTexts : public ::testing::TestWithParam<Refused> {};

TEST_P(BadTexts, SayWhere) {
  const Refused& c = GetParam();
  const TemporaryFolder dir;
  write_file(dir / c.file, c.content);
  TaskOptions o;
  if (c.file.ends_with(".txt")) o.train = {dir / c.file};
  const std::string message =
      error_of<FileError>([&] { load_task(o.train.empty() ? dir / c.file : "lm", bytes(), o); });
  EXPECT_NE(message.find(c.message), std::string::npos) << message;
  EXPECT_NE(message.find(c.file), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    All, BadTexts,
    ::testing::Values(
        Refused{"Empty", "a.txt", "", "there is no text in it"},
        Refused{"Blank", "a.txt", " \n\n\t ", "there is no text in it"},
        Refused{"Latin1", "a.txt", "caf\xE9 au lait", "byte 3 is not UTF-8"},
        Refused{"Broken", "a.txt", "ok\xE2\x82", "byte 2 is not UTF-8"},
        Refused{"EmptyCompletion", "a.jsonl",
                "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": "
                "\"\"}\n",
                "a.jsonl:2: the completion is empty"},
        Refused{"EmptyPrompt", "a.csv", "prompt,completion\n,b\n", "a.csv:2: the prompt is empty"},
        Refused{"NoRows", "a.csv", "prompt,completion\n", "there are no rows"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(LanguageTasks, WrongOptions) {
  const TemporaryFolder dir;
  write_file(dir / "a.csv", "prompt,completion\na,b\n");
  auto message = [&](const std::string& spec, const TaskOptions& o) {
    return error_of<Error>([&] { load_task(spec, bytes(), o); });
  };
  EXPECT_NE(message("lm", {}).find("--train FILE.txt"), std::string::npos);
  EXPECT_NE(message("lm", {.train = {dir / "missing.txt"}}).find("missing.txt"), std::string::npos);
  EXPECT_NE(message(dir / "a.csv", {.train = {"b.txt"}}).find("--train"), std::string::npos);
  EXPECT_NE(message(dir / "a.csv", {.prompt_column = "question"}).find("no column 'question'"),
            std::string::npos);
  EXPECT_NE(message(dir / "a.csv", {.metric = "accuracy"}).find("perplexity"), std::string::npos);
}

}  // namespace
}  // namespace graft::testing
