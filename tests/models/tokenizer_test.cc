// What tokenizers do beyond single stages: scanners against the regular expressions that they stand
// for, streams, batches, padding, folders.
#include "models/tokenizer.h"

#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "core/json.h"
#include "core/random.h"
#include "models/tokenizer/scanners.h"
#include "models/tokenizer/unicode.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

const char* const kByteLevelKinds[] = {"gpt2_bytelevel", "roberta_bytelevel", "llama3_bpe"};
const char* const kKinds[] = {"bert_wordpiece",   "gpt2_bytelevel",      "roberta_bytelevel",
                              "llama2_metaspace", "llama2_pretokenizer", "llama3_bpe",
                              "t5_unigram",       "t5_precompiled"};

std::string folder_of(const std::string& kind) { return golden_dir() + "/tokenizers/" + kind; }

std::vector<std::string> golden_texts(const std::string& kind) {
  std::vector<std::string> texts;
  const Json encodings = parse_json_file(folder_of(kind) + "/encodings.json");
  for (const Json& c : encodings.at("cases")) texts.push_back(c.at("text").get<std::string>());
  return texts;
}

// ---- scanners

std::vector<std::pair<uint32_t, uint32_t>> found(const Pattern& p, const std::string& text) {
  std::vector<Match> matches;
  p.find(text, matches);
  std::vector<std::pair<uint32_t, uint32_t>> out;
  for (const Match& m : matches) {
    EXPECT_TRUE(m.is_match);
    out.emplace_back(m.range.begin, m.range.end);
  }
  return out;
}

TEST(Scanners, FindWhatTheirExpressionsFind) {
  const char* const parts[] = {
      "a",          "B",      "re",     "ll",     "s",      "S",          "\u017F",
      "t",          "ve",     "m",      "'",      "'",      " ",          " ",
      " ",          "\n",     "\r",     "\t",     "1",      "23",         "\u0663",
      "\u00BD",     ".",      "-",      "!",      "\u00E9", "\u4E2D",     "\u0301",
      "\u00A0",     "\u3000", "\u2028", "\u0085", "_",      "\U0001F600", "\U0001D49C",
      "\U0001D7D8", "\u200B", "K",      "\u212A", "\x01",   "d"};
  for (const char* expression : {kGpt2Pattern, kLlama3Pattern}) {
    const auto scanner = scanner_of(expression);
    const auto regex = make_regex(expression, "test");
    ASSERT_NE(scanner, nullptr);
    for (uint64_t k = 0; k < 20000; ++k) {
      std::string text;
      const RandomStream random(7, k);
      const uint64_t length = 1 + random.bits(0) % 24;
      for (uint64_t i = 1; i <= length; ++i) text += parts[random.bits(i) % std::size(parts)];
      ASSERT_EQ(found(*scanner, text), found(*regex, text)) << text;
    }
    for (const std::string& text : golden_texts("gpt2_bytelevel"))
      ASSERT_EQ(found(*scanner, text), found(*regex, text)) << text;
  }
  EXPECT_EQ(scanner_of("\\s+"), nullptr);
}

TEST(Scanners, EveryCharacterHasTheClassOfTheExpressions) {
  const auto scanner = scanner_of(kLlama3Pattern);
  const auto regex = make_regex(kLlama3Pattern, "test");
  for (char32_t c = 1; c < 0x110000; c += c < 0x3000 ? 1 : 13) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "'";
    append_utf8(text, c);
    text += "a1 ";
    append_utf8(text, c);
    append_utf8(text, c);
    ASSERT_EQ(found(*scanner, text), found(*regex, text)) << static_cast<uint32_t>(c);
  }
}

// ---- streams

TEST(StreamDecoder, PiecesMakeTheWholeText) {
  for (const std::string kind : kKinds) {
    const auto t = load_tokenizer(folder_of(kind));
    for (const std::string& text : golden_texts(kind)) {
      const Encoding e = t->encode(text);
      StreamDecoder stream(*t);
      std::string all;
      for (const int64_t id : e.ids) {
        const std::string piece = stream.push(id);
        EXPECT_TRUE(is_utf8(piece));
        all += piece;
      }
      all += stream.finish();
      EXPECT_EQ(all, t->decode(e.ids)) << kind << ": " << text;
    }
  }
}

TEST(StreamDecoder, WaitsForWholeCharacters) {
  for (const std::string kind : kByteLevelKinds) {
    const auto t = load_tokenizer(folder_of(kind));
    StreamDecoder stream(*t);
    const char* const bytes[] = {"\u00F0", "\u0141", "\u013A", "\u0122"};  // F0 9F 98 80
    std::vector<std::string> pieces;
    for (const char* b : bytes) pieces.push_back(stream.push(t->id_of(b)));
    EXPECT_EQ(pieces, (std::vector<std::string>{"", "", "", "\U0001F600"})) << kind;
    EXPECT_EQ(stream.push(t->id_of("\u00F0")), "");
    EXPECT_EQ(stream.finish(), "\uFFFD");
    EXPECT_EQ(stream.push(t->id_of("a")), "a");  // as new
  }
}

// What is no UTF-8 comes out in the end, however much of it there is.
TEST(StreamDecoder, DoesNotWaitForEver) {
  for (const std::string kind : kByteLevelKinds) {
    const auto t = load_tokenizer(folder_of(kind));
    const int64_t start_byte = t->id_of("\u00F0"),
                  special = t->encode("").ids.empty() ? -1 : t->encode("").ids[0];
    StreamDecoder stream(*t);
    std::string all = stream.push(t->id_of("a"));
    for (int k = 0; k < 100; ++k) {
      all += stream.push(start_byte);
      if (special >= 0) all += stream.push(special);
    }
    EXPECT_GT(all.size(), 3 * 80u) << kind;
    all += stream.finish();
    std::string want = "a";
    for (int k = 0; k < 100; ++k) want += "\uFFFD";
    EXPECT_EQ(all, want) << kind;
  }
}

// ---- batches

TEST(Batches, AreWhatSingleTextsAre) {
  for (const std::string kind : kKinds) {
    const auto t = load_tokenizer(folder_of(kind));
    const std::vector<std::string> texts = golden_texts(kind);
    const std::vector<Encoding> batch = t->encode_batch(texts, true, 9);
    ASSERT_EQ(batch.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const Encoding one = t->encode(texts[i], true, 9);
      EXPECT_EQ(batch[i].ids, one.ids);
      EXPECT_EQ(batch[i].tokens, one.tokens);
      EXPECT_EQ(batch[i].offsets, one.offsets);
    }
  }
}

Json small_file() {
  return parse_json(R"({
    "model": {"type": "WordLevel", "unk_token": "?",
              "vocab": {"?": 0, "a": 1, "b": 2, "c": 3, "<s>": 4, "</s>": 5, "<pad>": 6}},
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": {"type": "RobertaProcessing", "cls": ["<s>", 4], "sep": ["</s>", 5],
                       "trim_offsets": false, "add_prefix_space": false}})",
                    "small");
}

using Ids = std::vector<int64_t>;

TEST(Batches, TruncationAndPaddingFollowTheFile) {
  Json j = small_file();
  const auto right = parse_tokenizer_json(json_text(j), "F");
  EXPECT_EQ(right->encode("a b c", true, 4).ids, (Ids{4, 1, 2, 5}));
  EXPECT_EQ(right->encode_pair("a b c", "c", 7).ids, (Ids{4, 1, 2, 5, 5, 3, 5}));
  EXPECT_EQ(right->settings().special.pad, 6);
  EXPECT_EQ(right->settings().padding.token, "<pad>");
  EXPECT_EQ(right->pad_id(), 6);

  j["truncation"] = {
      {"direction", "Left"}, {"max_length", 12}, {"strategy", "OnlySecond"}, {"stride", 0}};
  j["padding"] = parse_json(
      R"({"strategy": {"Fixed": 5}, "direction": "Left", "pad_to_multiple_of": 4, "pad_id": 6,
          "pad_type_id": 1, "pad_token": "<pad>"})",
      "padding");
  const auto left = parse_tokenizer_json(json_text(j), "F");
  EXPECT_EQ(left->settings().truncation.max_length, 12);
  EXPECT_EQ(left->encode("a b c", true, 4).ids, (Ids{4, 2, 3, 5}));
  EXPECT_EQ(left->encode_pair("a", "a b c", 7).ids, (Ids{4, 1, 5, 5, 2, 3, 5}));
  EXPECT_NE(error_of<UsageError>([&] { left->encode_pair("a b c", "a", 5); }).find("only_second"),
            std::string::npos);

  const std::vector<std::string> texts{"a", "a b c"};
  std::vector<Encoding> batch = left->encode_batch(texts);
  EXPECT_EQ(pad(batch, left->settings().padding), (std::vector<int64_t>{3, 5}));
  EXPECT_EQ(batch[0].ids, (Ids{6, 6, 6, 6, 6, 4, 1, 5}));
  EXPECT_EQ(batch[0].type_ids, (Ids{1, 1, 1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(batch[0].special, (std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 0, 1}));
  EXPECT_EQ(batch[1].ids, (Ids{6, 6, 6, 4, 1, 2, 3, 5}));
  batch = right->encode_batch(texts);
  pad(batch, right->settings().padding);
  EXPECT_EQ(batch[0].ids, (Ids{4, 1, 5, 6, 6}));
  EXPECT_EQ(batch[0].tokens.back(), "<pad>");
}

// ---- folders

TEST(Folders, TheOtherFilesSayWhatTokensAreFor) {
  const TemporaryFolder folder;
  write_file(folder / "tokenizer.json", json_text(small_file()));
  write_file(
      folder / "special_tokens_map.json",
      R"({"bos_token": "a", "sep_token": {"content": "b", "lstrip": false}, "pad_token": "c"})");
  write_file(folder / "tokenizer_config.json",
             R"({"padding_side": "left", "truncation_side": "left", "model_max_length": 77,
                 "cls_token": "none of the vocabulary"})");
  const auto t = load_tokenizer(folder.path());
  const TokenizerSettings& s = t->settings();
  EXPECT_EQ((Ids{s.special.bos, s.special.eos, s.special.sep, s.special.pad, s.special.cls}),
            (Ids{1, 5, 2, 3, -1}));
  EXPECT_EQ(s.padding.side, Side::left);
  EXPECT_EQ(s.padding.id, 3);
  EXPECT_EQ(s.model_max_length, 77);
  EXPECT_EQ(t->encode("a b c", true, 4).ids, (Ids{4, 2, 3, 5}));
  write_file(folder / "tokenizer_config.json",
             R"({"model_max_length": 1000000000000000019884624838656, "padding_side": "up"})");
  EXPECT_NE(error_of([&] { load_tokenizer(folder.path()); }).find("'padding_side' should be left"),
            std::string::npos);
}

// vocab.json and merges.txt hold what a tokenizer.json does; the other way round they are written
// out of it here.
TEST(Folders, VocabularyAndMergesAloneDo) {
  for (const std::string kind : {"gpt2_bytelevel", "roberta_bytelevel"}) {
    const Json j = parse_json_file(folder_of(kind) + "/tokenizer.json");
    Json vocabulary = j.at("model").at("vocab");
    for (const Json& t : j.at("added_tokens"))
      vocabulary[t.at("content").get<std::string>()] = t.at("id");
    std::string merges = "#version: 0.2\n";
    for (const Json& m : j.at("model").at("merges"))
      merges += m[0].get<std::string>() + " " + m[1].get<std::string>() + "\n";
    const TemporaryFolder folder;
    write_file(folder / "vocab.json", json_text(vocabulary));
    write_file(folder / "merges.txt", merges);
    if (kind == "roberta_bytelevel")
      write_file(folder / "tokenizer_config.json", R"({"add_prefix_space": true})");
    const auto whole = load_tokenizer(folder_of(kind)), parts = load_tokenizer(folder.path());
    for (const std::string& text : golden_texts(kind)) {
      const Encoding a = whole->encode(text), b = parts->encode(text);
      EXPECT_EQ(a.ids, b.ids) << text;
      EXPECT_EQ(a.offsets, b.offsets) << text;
      EXPECT_EQ(whole->decode(a.ids), parts->decode(a.ids));
    }
    write_file(folder / "merges.txt", "#version: 0.2\n\u0120 t\n\u0120 t h\n");
    EXPECT_NE(error_of([&] {
                load_tokenizer(folder.path());
              }).find("merges.txt:3: a merge should be two tokens"),
              std::string::npos);
  }
}

TEST(Utf8, WhatIsMalformedBecomesReplacements) {
  const std::pair<std::string, std::string> rows[] = {
      {"a\xC3\xA9", "a\u00E9"},
      {"\xC3", "\uFFFD"},
      {"\xE4\xB8"
       "a",
       "\uFFFD"
       "a"},  // one for a beginning that breaks off
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},  // an overlong form: no byte of it begins one
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},  // a surrogate
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\x80\xFF", "\uFFFD\uFFFD"},
      {"\xF0\x9F\xF0\x9F\x98\x80", "\uFFFD\U0001F600"},
  };
  for (const auto& [bytes, text] : rows) EXPECT_EQ(lossy_utf8(bytes), text);
}

}  // namespace
}  // namespace graft::testing
