// Labels as words that a model says: what is asked, what may be answered, what an answer means.
#include "train/text_to_text.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "models/tokenizer/bpe_train.h"
#include "tests/support/golden.h"
#include "train/language_task.h"
#include "train/span_corruption.h"
#include "train/wordnet_words.h"

namespace graft::testing {
namespace {

// A token a byte; sentinels, and an end that encoding adds.
const Tokenizer& bytes() {
  static const auto t = parse_tokenizer_json(
      json_text(BpeTrainer({.vocabulary_size = 256 + 22,
                            .special_tokens =
                                [] {
                                  std::vector<std::string> special{"<pad>", "</s>"};
                                  for (int i = 0; i < 20; ++i)
                                    special.push_back(fmt::format("<extra_id_{}>", i));
                                  return special;
                                }(),
                            .closing = "</s>"})
                    .train()),
      "bytes");
  return *t;
}

std::string text_of(std::span<const int64_t> ids) { return bytes().decode(ids, false); }

std::string labels_of(const Example& x) {
  std::vector<int64_t> ids;
  std::ranges::copy_if(x.next, std::back_inserter(ids), [](int64_t id) { return id != kNoLabel; });
  return text_of(ids);
}

TaskOptions words(bool two_stacks) {
  TaskOptions o;
  o.text_to_text = true;
  o.two_stacks = two_stacks;
  return o;
}

const std::vector<TaskRow> kRows = {{"1", "good", "fine wine", ""},
                                    {"2", "bad", "sour milk", "old"},
                                    {"3", "good", "fresh bread", ""}};

class TextToText : public ::testing::TestWithParam<bool> {};

TEST_P(TextToText, NamesOfClasses) {
  const bool two = GetParam();
  const Task task = make_task("taste", kRows, {}, kRows, bytes(), words(two));
  EXPECT_EQ(task.kind, TaskKind::classification);
  EXPECT_EQ(task.trained_as(), TaskKind::language);
  EXPECT_EQ(task.metric, "accuracy");
  const std::string end = "</s>", good = two ? "good</s>" : " good</s>";
  EXPECT_EQ(labels_of(task.train[0]), good);
  EXPECT_EQ(text_of(question_of(task.train[0], two)),
            two ? "taste sentence: fine wine</s>" : "taste sentence: fine wine label:");
  EXPECT_EQ(text_of(question_of(task.train[1], two)),
            two ? "taste sentence1: sour milk sentence2: old</s>"
                : "taste sentence1: sour milk sentence2: old label:");
  ASSERT_EQ(task.answers.size(), 2u);
  EXPECT_EQ(task.answers[1].word, "good");
  EXPECT_EQ(text_of(task.answers[1].tokens), good);
  // What is trained is what is understood.
  std::vector<std::vector<int64_t>> said;
  for (const Example& x : task.test) {
    auto& tokens = said.emplace_back(x.next);
    std::erase(tokens, kNoLabel);
  }
  said.push_back(bytes().encode("good enough").ids);
  said.push_back({});
  const Predictions p = meaning_of(task, said);
  EXPECT_EQ(p.classes, (std::vector<int64_t>{1, 0, 1, -1, -1}));
}

TEST_P(TextToText, StepsOfScores) {
  std::vector<TaskRow> rows;
  for (int i = 0; i <= 50; ++i)
    rows.push_back({fmt::format("{}", i), fmt::format("{:.1f}", 0.1 * i), "a", "b"});
  const Task task = make_task("near", rows, {}, rows, bytes(), words(GetParam()));
  EXPECT_EQ(task.kind, TaskKind::regression);
  EXPECT_EQ(task.metric, "spearman");
  const std::string space = GetParam() ? "" : " ";
  EXPECT_EQ(labels_of(task.test[0]), space + "0.0</s>");
  EXPECT_EQ(labels_of(task.test[34]), space + "3.4</s>");
  EXPECT_EQ(labels_of(task.test[50]), space + "5.0</s>");
  const Predictions p = meaning_of(task, {task.answers.back().tokens, {}});
  EXPECT_DOUBLE_EQ(p.scores[0], 5);
  EXPECT_DOUBLE_EQ(p.scores[1], -1) << "not a score";
}

TEST_P(TextToText, Refuses) {
  TaskOptions o = words(GetParam());
  o.max_length = 3;
  EXPECT_THROW(make_task("t", kRows, {}, {}, bytes(), o), UsageError) << "labels are cut off";
  const auto endless = parse_tokenizer_json(
      json_text(BpeTrainer({.vocabulary_size = 256, .special_tokens = {}}).train()), "endless");
  EXPECT_THROW(make_task("t", kRows, {}, {}, *endless, words(GetParam())), UsageError);
  // An uncased tokenizer makes one of two labels.
  const auto wordpiece = load_tokenizer(golden_dir() + "/tokenizers/bert_wordpiece");
  const std::vector<TaskRow> cased = {{"1", "Black", "a", ""}, {"2", "black", "b", ""}};
  try {
    make_task("t", cased, {}, {}, *wordpiece, words(GetParam()));
    FAIL() << "two labels are the same tokens";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("'Black' and 'black'"), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Stacks, TextToText, ::testing::Values(false, true),
                         [](const auto& row) { return row.param ? "Two" : "One"; });

TEST(WordnetWords, EveryClassHasOne) {
  for (const auto& [task, classes] : {std::pair{"supersense", 40u}, {"nli", 3u}, {"gloss", 2u}}) {
    const auto names = wordnet_class_names(task);
    EXPECT_EQ(names.size(), classes) << task;
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), classes) << task;
  }
  EXPECT_TRUE(wordnet_class_names("sim").empty()) << "numbers";
}

// ---- filling in what was cut out of running text

struct Stretch {
  int64_t length;
  size_t text;
};
class SpanCorruption : public ::testing::TestWithParam<Stretch> {};

TEST_P(SpanCorruption, WhatIsCutOutFitsTheHoles) {
  std::string text;
  for (size_t i = 0; text.size() < GetParam().text; ++i) text += fmt::format("{} ", i * 7919 % 101);
  const std::string_view texts[] = {text, "the end"};
  const auto rows = corrupted_rows(texts, bytes(), GetParam().length);
  std::string whole;
  size_t cut = 0, all = 0;
  int64_t length = 0;
  for (const Example& x : rows) {
    EXPECT_LE(static_cast<int64_t>(x.ids.size()), GetParam().length);
    EXPECT_EQ(x.ids.back(), bytes().id_of("</s>"));
    EXPECT_EQ(x.next.back(), bytes().id_of("</s>"));
    const int64_t first = bytes().id_of("<extra_id_0>");
    size_t sentinel = 0;
    for (const int64_t id : std::span(x.ids).first(x.ids.size() - 1)) {
      if (id < first || id >= first + 20) {
        whole += text_of({&id, 1});
        continue;
      }
      EXPECT_EQ(id, first + static_cast<int64_t>(sentinel++)) << "in order";
      auto at = std::ranges::find(x.next, id);
      ASSERT_NE(at, x.next.end());
      const auto begin = ++at;
      for (; at + 1 != x.next.end() && (*at < first || *at >= first + 20); ++at)
        whole += text_of({&*at, 1});
      EXPECT_GT(at - begin, 0) << "a hole is not empty";
      cut += static_cast<size_t>(at - begin);
    }
    all += x.ids.size() - 1 - sentinel;
    length += x.bytes;
  }
  EXPECT_EQ(whole, text + "</s>the end</s>");
  all += cut;
  EXPECT_LE(static_cast<size_t>(length), cut) << "an end of text has no bytes";
  EXPECT_GE(static_cast<size_t>(length) + 2, cut);
  if (GetParam().text > 1000) {
    EXPECT_NEAR(static_cast<double>(cut), 0.15 * static_cast<double>(all),
                0.03 * static_cast<double>(all));
  }
}

INSTANTIATE_TEST_SUITE_P(All, SpanCorruption,
                         ::testing::Values(Stretch{64, 5000}, Stretch{33, 1}, Stretch{8, 100},
                                           Stretch{128, 3000}),
                         [](const auto& row) {
                           return fmt::format("Length{}Text{}", row.param.length, row.param.text);
                         });

TEST(SpanCorruption, NeedsSentinels) {
  const std::string text(1000, 'a');
  const std::string_view texts[] = {text};
  const Tokenizer& few = bytes();
  EXPECT_NO_THROW(corrupted_rows(texts, few, 64));
  try {
    corrupted_rows(texts, few, 1000);
    FAIL() << "twenty sentinels are too few";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("no <extra_id_20>"), std::string::npos) << e.what();
  }
}

TEST(TwoStackRows, QuestionAndAnswerAreRowsOfTheirOwn) {
  const Example x = two_stack_row("a", "2+3=", "five", bytes(), 64);
  EXPECT_EQ(text_of(x.ids), "2+3=</s>");
  EXPECT_EQ(text_of(x.next), "five</s>");
  EXPECT_EQ(x.bytes, 4);
  const Example cut = two_stack_row("a", "a question", "an answer", bytes(), 4);
  EXPECT_EQ(text_of(cut.ids), "a q</s>");
  EXPECT_EQ(text_of(cut.next), "an a");
}

}  // namespace
}  // namespace graft::testing
