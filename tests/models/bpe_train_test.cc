// Training of byte-level BPE.
#include "models/tokenizer/bpe_train.h"

#include <gtest/gtest.h>

#include "models/tokenizer.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

std::vector<std::string> merges_of(const Json& file) {
  std::vector<std::string> out;
  for (const Json& m : file.at("model").at("merges"))
    out.push_back(m[0].get<std::string>() + "+" + m[1].get<std::string>());
  return out;
}

// Counts by hand: hug 10, pug 5, pun 12, bun 4, hugs 5.
TEST(BpeTrainer, MergesTheMostFrequentPair) {
  BpeTrainer trainer({.vocabulary_size = 1000, .least_count = 5, .special_tokens = {"<s>"}});
  const std::pair<const char*, int> words[] = {
      {"hug", 10}, {"pug", 5}, {"pun", 12}, {"bun", 4}, {"hugs", 5}};
  for (const auto& [word, count] : words) {
    for (int k = 0; k < count; ++k) trainer.add(word);
  }
  const Json file = trainer.train();
  // ug 20; un 16; h+ug 15; p+un 12; then p+ug and hug+s have 5 each, and p has the lower id; with 4
  // b+un is too rare.
  EXPECT_EQ(merges_of(file),
            (std::vector<std::string>{"u+g", "u+n", "h+ug", "p+un", "p+ug", "hug+s"}));
  const auto t = parse_tokenizer_json(json_text(file), "trained");
  EXPECT_EQ(t->vocabulary_size(), 1 + 256 + 6);
  EXPECT_EQ(t->encode("hugs<s>bun").tokens, (std::vector<std::string>{"hugs", "<s>", "b", "un"}));
}

TEST(BpeTrainer, PairsOfOneLetterOverlap) {
  BpeTrainer trainer({.vocabulary_size = 1000, .least_count = 1, .special_tokens = {}});
  trainer.add("aaaaa");
  EXPECT_EQ(merges_of(trainer.train()), (std::vector<std::string>{"a+a", "aa+a", "aa+aaa"}));
}

TEST(BpeTrainer, StopsAtTheSizeAndEncodesAnything) {
  BpeTrainer trainer({.vocabulary_size = 300, .special_tokens = {"<|endoftext|>"}});
  const Json golden = parse_json_file(golden_dir() + "/tokenizers/gpt2_bytelevel/encodings.json");
  std::vector<std::string> texts;
  for (const Json& c : golden.at("cases")) texts.push_back(c.at("text").get<std::string>());
  for (int k = 0; k < 3; ++k) {
    for (const std::string& text : texts) trainer.add(text);
  }
  const auto t = parse_tokenizer_json(json_text(trainer.train()), "trained");
  EXPECT_EQ(t->vocabulary_size(), 300);
  for (const std::string& text : texts) {
    EXPECT_EQ(t->decode(t->encode(text).ids, false), text);
  }
}

TEST(BpeTrainer, BytesAndSpecialTokensNeedRoom) {
  EXPECT_NE(error_of<UsageError>([] { BpeTrainer({.vocabulary_size = 256}); }).find("257"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::testing
