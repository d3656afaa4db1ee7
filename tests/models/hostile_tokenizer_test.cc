// Damaged tokenizer.json and vocab.txt.
#include "core/atomic_file.h"
#include "core/json.h"
#include "models/tokenizer.h"
#include "tests/support/hostile.h"

namespace graft::testing {
namespace {

constexpr const char* kTokenizer = R"({
  "added_tokens": [{"id": 1, "content": "[CLS]", "special": true},
                   {"id": 2, "content": "[SEP]", "special": true}],
  "normalizer": {"type": "BertNormalizer"},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
               {"Sequence": {"id": "A", "type_id": 0}},
               {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]},
  "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4}}
})";

// The value at a JSON pointer replaced; null: taken out.
std::string patched(const char* pointer, const char* value) {
  Json j = parse_json(kTokenizer, "base");
  const Json::json_pointer at(pointer);
  if (value == nullptr) {
    j.at(at.parent_pointer()).erase(at.back());
  } else {
    j[at] = parse_json(value, "value");
  }
  return json_text(j);
}

TEST(TokenizerFile, EachDamageIsNamed) {
  EXPECT_EQ(parse_tokenizer_json(kTokenizer, "F")->encode("ab x").ids,
            (std::vector<int64_t>{1, 3, 4, 0, 2}));
  const Change cases[] = {
      {"/model", nullptr, {"'model' is missing"}},
      {"/model", "[]", {"'model' is missing or not an object"}},
      {"/model/type", "\"GPT\"", {"'GPT' is not known", "WordPiece"}},
      {"/model/vocab", nullptr, {"'vocab' is missing"}},
      {"/model/vocab", "[\"a\"]", {"'vocab' is missing or not an object"}},
      {"/model/vocab/a", "\"3\"", {"the id of 'a' is not an integer"}},
      {"/model/vocab/a", "18446744073709551615", {"the id of 'a' is not an integer"}},
      {"/model/vocab/a", "-3", {"'a' has the id -3"}},
      {"/model/vocab/a", "9000000", {"'a' has the id 9000000", "5 tokens", "expected 0 to"}},
      {"/model/vocab/a", "4", {"the id 4 belongs to both 'a' and '##b'"}},
      {"/model/vocab/[UNK]", nullptr, {"the vocabulary has no token '[UNK]'"}},
      {"/model/unk_token", "\"<unk>\"", {"the vocabulary has no token '<unk>'"}},
      {"/model/max_input_chars_per_word", "0", {"should be 1 to 1000 but is 0"}},
      {"/model/max_input_chars_per_word", "1000000000", {"should be 1 to 1000"}},
      {"/normalizer/type", "\"NFX\"", {"normalizer: 'NFX' is not known", "NFKC"}},
      {"/normalizer/lowercase", "1", {"'lowercase' should be true or false but is 1"}},
      {"/added_tokens/0/id", "7.5", {"'id' should be an integer"}},
      {"/added_tokens/0/id", "9", {"token '[CLS]' has two ids, 1 and 9"}},
      {"/added_tokens/0/id", "2", {"the id 2 belongs to both '[SEP]' and '[CLS]'"}},
      {"/added_tokens/0/content", "\"\"", {"an added token has no content"}},
      {"/added_tokens/0", "7", {"'content' is missing"}},
      {"/post_processor/type", "\"Roberta\"", {"post_processor: 'Roberta' is not known"}},
      {"/post_processor/single", nullptr, {"the template 'single' is missing"}},
      {"/post_processor/pair", "7", {"the template 'pair' is missing or not a list"}},
      {"/post_processor/single/0", "7", {"a template has the part 7"}},
      {"/post_processor/single/0/SpecialToken/id", "\"[BOS]\"", {"no token '[BOS]'"}},
      {"/post_processor/single/1/Sequence/id", "\"C\"", {"names the text 'C'; expected A or B"}},
      {"/post_processor/single/1/Sequence/type_id", "\"0\"", {"'type_id' should be an integer"}},
      {"/post_processor",
       R"({"type": "BertProcessing", "cls": "[CLS]", "sep": ["[SEP]", 2]})",
       {"'cls' should be a token and its id"}},
      {"/post_processor",
       R"({"type": "BertProcessing", "cls": ["[BOS]", 1], "sep": ["[SEP]", 2]})",
       {"no token '[BOS]'"}},
  };
  for (const Change& c : cases) {
    const std::string error =
        error_of<Error>([&] { parse_tokenizer_json(patched(c.field, c.value), "T.json"); });
    EXPECT_TRUE(error.starts_with("T.json: ")) << c.field << ": " << error;
    expect_parts(error, c.message);
  }
  EXPECT_NE(error_of([] {
              parse_tokenizer_json(R"({"model": {"vocab": {"[UNK]": 0, "a": 1, "a": 2}}})", "F");
            }).find("the key 'a' stands twice"),
            std::string::npos);
}

// Other stages, put in the place of the field that the pointer names.
TEST(TokenizerFile, EachStageNamesItsFieldAndWhatIsWrong) {
  const Change cases[] = {
      {"/model", R"({"type": "BPE", "vocab": {"a": 0}})", {"model", "'merges' is missing"}},
      {"/model",
       R"({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b c"]})",
       {"merge 0 should be two tokens", "a b c"}},
      {"/model",
       R"({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]})",
       {"merge 0 is of 'a' and 'b'", "no token 'ab'"}},
      {"/model",
       R"({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "?"})",
       {"no token '?'"}},
      {"/model", R"({"type": "Unigram", "vocab": [["a", "b"]]})", {"entry 0 of 'vocab'"}},
      {"/model",
       R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1})",
       {"'unk_id'", "0 to 0"}},
      {"/model", R"({"type": "WordLevel", "vocab": {"a": 0}})", {"no token '[UNK]'"}},
      {"/normalizer", R"({"type": "Sequence"})", {"'normalizers' is missing or not a list"}},
      {"/normalizer",
       R"({"type": "Replace", "pattern": {"Regex": "a("}, "content": ""})",
       {"normalizer: pattern", "'a(' is not a regular expression", "parenthesis"}},
      {"/normalizer",
       R"({"type": "Replace", "pattern": "a", "content": ""})",
       {"'pattern' should be"}},
      {"/normalizer",
       R"({"type": "Precompiled", "precompiled_charsmap": "a*"})",
       {"'precompiled_charsmap' is not text in base 64"}},
      {"/normalizer",
       R"({"type": "Precompiled", "precompiled_charsmap": "/////w=="})",
       {"the character map has 4 bytes", "it is damaged"}},
      {"/pre_tokenizer", R"({"type": "Spaces"})", {"pre_tokenizer: 'Spaces' is not known"}},
      {"/pre_tokenizer",
       R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Dropped"})",
       {"'behavior' should be Removed", "'Dropped'"}},
      {"/pre_tokenizer",
       R"({"type": "Metaspace", "replacement": "__"})",
       {"'replacement' should be one character but is '__'"}},
      {"/pre_tokenizer",
       R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
       {"'prepend_scheme' should be always, first or never"}},
      {"/decoder", R"({"type": "CTC"})", {"decoder: 'CTC' is not known"}},
      {"/post_processor",
       R"({"type": "RobertaProcessing", "cls": ["[CLS]", 7], "sep": ["[SEP]", 2]})",
       {"'cls' gives '[CLS]' the id 7; in the vocabulary it has 1"}},
      {"/post_processor",
       R"({"type": "Sequence", "processors": [
            {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
            {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}]})",
       {"two post-processors"}},
      {"/post_processor/special_tokens",
       R"({"[CLS]": {"id": "[CLS]", "ids": [99], "tokens": ["[CLS]"]}})",
       {"'[CLS]' has the id 99"}},
      {"/truncation", R"({"max_length": -1})", {"truncation", "'max_length' should be 0 to"}},
      {"/truncation", R"({"strategy": "None"})", {"'strategy' should be LongestFirst"}},
      {"/padding", R"({"direction": "up"})", {"padding", "'direction' should be left or right"}},
  };
  for (const Change& c : cases) {
    const std::string error =
        error_of<Error>([&] { parse_tokenizer_json(patched(c.field, c.value), "T.json"); });
    EXPECT_TRUE(error.starts_with("T.json: ")) << c.value << ": " << error;
    expect_parts(error, c.message);
  }
}

// Files that read well and would take all time or memory there is.
TEST(TokenizerFile, WhatNoTextShouldCostIsRefused) {
  const std::string letters(60, 'a');
  std::string doubling = R"({"type": "Sequence", "normalizers": [)";
  for (int k = 0; k < 40; ++k) {
    doubling += k > 0 ? "," : "";
    doubling += R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  }
  doubling += "]}";
  std::string bytes = R"({"type": "Sequence", "pretokenizers": [)";
  for (int k = 0; k < 60; ++k) bytes += std::string(k > 0 ? "," : "") + R"({"type": "ByteLevel"})";
  bytes += "]}";
  const Change cases[] = {
      {"/pre_tokenizer",
       R"re({"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated"})re",
       {"T.json: pre_tokenizer: pattern", "'(a|aa)+$' cannot be run", "limit"}},
      {"/normalizer", doubling.c_str(), {"T.json: normalizer", "lengthen a text"}},
      {"/pre_tokenizer", bytes.c_str(), {"T.json: pre_tokenizer", "lengthen a text"}},
      {"/model", R"({"type": "Unigram", "vocab": [["b", 0]]})", {"no token for", "'unk_id'"}},
  };
  for (const Change& c : cases) {
    const auto t = parse_tokenizer_json(patched(c.field, c.value), "T.json");
    const std::string text = letters + "\u00E9!";
    expect_parts(error_of([&] { t->encode(text); }), c.message);
    expect_parts(error_of([&] { t->encode_batch(std::vector<std::string>(40, text)); }), c.message);
    EXPECT_NO_THROW(t->encode(""));
  }
  Json j = parse_json(kTokenizer, "base");
  j["added_tokens"].push_back({{"id", 5}, {"content", std::string(1001, 'x')}});
  expect_parts(error_of([&] { parse_tokenizer_json(json_text(j), "F"); }),
               {"an added token has 1001 bytes"});
  j = parse_json(kTokenizer, "base");
  j["normalizer"] = {{"type", "Replace"},
                     {"pattern", {{"Regex", std::string(300, '(') + std::string(300, ')')}}},
                     {"content", ""}};
  expect_parts(error_of([&] { parse_tokenizer_json(json_text(j), "F"); }),
               {"is not a regular expression", "depth"});
}

TEST(TokenizerFile, WithoutPostProcessorNothingStandsAroundAText) {
  const auto t = parse_tokenizer_json(patched("/post_processor", "null"), "F");
  EXPECT_EQ(t->encode("a").ids, (std::vector<int64_t>{3}));
  EXPECT_EQ(t->encode_pair("a", "a").type_ids, (std::vector<int64_t>{0, 1}));
  const auto bert = parse_tokenizer_json(
      patched("/post_processor",
              R"({"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]})"),
      "F");
  EXPECT_EQ(bert->encode_pair("a", "a").ids, (std::vector<int64_t>{1, 3, 2, 3, 2}));
}

TEST(VocabularyFile, SpecialTokensStandOnce) {
  const std::pair<const char*, std::vector<const char*>> cases[] = {
      {"", {"V: the vocabulary has no token '[CLS]'"}},
      {"[UNK]\n[SEP]\na\n", {"V: the vocabulary has no token '[CLS]'"}},
      {"[UNK]\n[CLS]\na\n", {"V: the vocabulary has no token '[SEP]'"}},
      {"[CLS]\n[SEP]\na\n", {"V: the vocabulary has no token '[UNK]'"}},
      {"[UNK]\n[CLS]\n[SEP]\n[CLS]\n", {"V:4: the special token '[CLS]' stands twice"}},
  };
  for (const auto& [text, message] : cases)
    expect_parts(error_of([&text = text] { parse_vocabulary(text, "V"); }), message);
  const auto t = parse_vocabulary("[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\nb\r\na", "V");
  EXPECT_EQ(t->encode("a B").ids, (std::vector<int64_t>{1, 5, 4, 2}));
  EXPECT_EQ(parse_vocabulary("[UNK]\n[CLS]\n[SEP]\nb\n", "V", false)->encode("B").ids,
            (std::vector<int64_t>{1, 0, 2}));
}

TEST(TokenizerFile, AFolderWithoutOneSaysSo) {
  const TemporaryFolder folder;
  expect_parts(error_of([&] { load_tokenizer(folder.path()); }),
               {folder.path().c_str(), "neither tokenizer.json nor vocab.txt"});
  write_file(folder / "vocab.txt", "[UNK]\n[CLS]\n[SEP]\n");
  write_file(folder / "tokenizer_config.json", R"({"do_lower_case": "yes"})");
  expect_parts(error_of([&] { load_tokenizer(folder.path()); }),
               {"tokenizer_config.json", "'do_lower_case' should be true or false"});
}

}  // namespace
}  // namespace graft::testing
