// Each stage of the tokenizer pipeline, one row a case. What is expected is what Hugging Face
// tokenizers 0.22 gives for the same file.
#include <gtest/gtest.h>

#include "core/json.h"
#include "models/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

// A file whose model has no token but the unknown one, which reads as the word that it stands for:
// tokens are the words that come to the model.
Json bare_file() {
  return parse_json(
      R"({"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
          "decoder": null, "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0]]}})",
      "bare");
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  return fmt::format("{}", fmt::join(parts, between));
}

std::string shown_offsets(const Encoding& e) {
  std::vector<std::string> out;
  for (const auto& [begin, end] : e.offsets) out.push_back(fmt::format("{}-{}", begin, end));
  return joined(out, " ");
}

struct Row {
  const char *stage, *text, *tokens, *offsets;
};

TEST(Normalizers, EachCharacterKeepsItsPlace) {
  const Row rows[] = {
      {R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true})",
       "\u00C9t\u00E9\007\011\u4E2DA", "ete  \u4E2D a", "0-1 1-2 2-3 4-5 5-6 5-6 5-6 6-7"},
      {R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":false})",
       "\u00C9t\u00E9 \u0130", "\u00C9t\u00E9 \u0130", "0-1 1-2 2-3 3-4 4-5"},
      {R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":false,"lowercase":true})",
       "\u00C9 \u0130", "\u00E9 i\u0307", "0-1 1-2 2-3 2-3"},
      {R"({"type":"BertNormalizer","clean_text":false,"handle_chinese_chars":false,"strip_accents":null,"lowercase":true})",
       "\u4E2D\007E\u0301", "\u4E2D\007e", "0-1 1-2 2-3"},
      {R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true})",
       "b\u0307\u1B44\u302Ec", "b\u1B44\u302Ec", "0-1 1-2 2-3 4-5"},
      {R"({"type":"NFC"})", "e\u0301\u0323 \u1112\u1161\u11ABx", "\u1EB9\u0301 \uD55Cx",
       "0-1 2-3 3-4 4-5 7-8"},
      {R"({"type":"NFD"})", "\u00E9\u0323 \uD55Cx", "e\u0323\u0301 \u1112\u1161\u11ABx",
       "0-1 1-2 1-2 2-3 3-4 3-4 3-4 4-5"},
      {R"({"type":"NFKC"})", "\uFB01 \u00BD\uFF76\uFF9E x", "fi 1\u20442\u30AC x",
       "0-1 0-1 1-2 2-3 2-3 2-3 3-4 5-6 6-7"},
      {R"({"type":"NFKD"})", "\uFB01\u212Bx", "fiA\u030Ax", "0-1 0-1 1-2 1-2 2-3"},
      {R"({"type":"Lowercase"})", "A\u0130\u01C5B", "ai\u0307\u01C6b", "0-1 1-2 1-2 2-3 3-4"},
      {R"({"type":"StripAccents"})", "e\u0301a\u0300x", "eax", "0-1 2-3 4-5"},
      {R"({"type":"Strip","strip_left":true,"strip_right":false})", " \u3000a b ", "a b ",
       "2-3 3-4 4-5 5-6"},
      {R"({"type":"Strip","strip_left":true,"strip_right":true})", "  a b \012", "a b",
       "2-3 3-4 4-5"},
      {R"({"type":"Nmt"})", "a\001\u200B\uFEFF\012b", "a   b", "0-1 2-3 3-4 4-5 5-6"},
      {R"({"type":"Replace","pattern":{"String":" "},"content":"__"})", "a b ", "a__b__",
       "0-1 1-2 1-2 2-3 3-4 3-4"},
      {R"({"type":"Replace","pattern":{"Regex":"[xy]+"},"content":"-"})", "axyyb", "a-b",
       "0-1 3-4 4-5"},
      {R"({"type":"Replace","pattern":{"Regex":"x*"},"content":"-"})", "axb", "-a-b-",
       "0-0 0-1 1-2 2-3 2-3"},
      {R"({"type":"Replace","pattern":{"String":"ab"},"content":""})", "xabab", "x", "0-1"},
      {R"({"type":"Prepend","prepend":"__"})", "\u00E9x", "__\u00E9x", "0-1 0-1 0-1 1-2"},
      {R"({"type":"Prepend","prepend":"__"})", "", "", ""},
      {R"({"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"},{"type":"Lowercase"},{"type":"Prepend","prepend":"_"}]})",
       "\u00C0\u00C9", "_ae", "0-1 0-1 1-2"},
  };
  for (const Row& r : rows) {
    Json j = bare_file();
    j["normalizer"] = parse_json(r.stage, "stage");
    j["pre_tokenizer"] = parse_json(  // every character a word
        R"({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated"})", "stage");
    const Encoding e = parse_tokenizer_json(json_text(j), "F")->encode(r.text);
    EXPECT_EQ(joined(e.tokens, ""), r.tokens) << r.stage;
    EXPECT_EQ(shown_offsets(e), r.offsets) << r.stage;
  }
}

TEST(PreTokenizers, WordsAndTheirPlaces) {
  const Row rows[] = {
      {R"({"type":"BertPreTokenizer"})", " It's \u00BFya? $5", "It|'|s|\u00BF|ya|?|$|5",
       "1-3 3-4 4-5 6-7 7-9 9-10 11-12 12-13"},
      {R"({"type":"Whitespace"})", "Hey you_2! \u00E9t\u00E9... \u24B6",
       "Hey|you_2|!|\u00E9t\u00E9|...|\u24B6", "0-3 4-9 9-10 11-14 14-17 18-19"},
      {R"({"type":"WhitespaceSplit"})", " a\u3000b!  c ", "a|b!|c", "1-2 3-5 7-8"},
      {R"({"type":"Split","pattern":{"String":"-"},"behavior":"Removed","invert":false})",
       "-the-final--countdown-", "the|final|countdown", "1-4 5-10 12-21"},
      {R"({"type":"Split","pattern":{"String":"-"},"behavior":"Isolated","invert":false})",
       "-the-final--countdown-", "-|the|-|final|-|-|countdown|-",
       "0-1 1-4 4-5 5-10 10-11 11-12 12-21 21-22"},
      {R"({"type":"Split","pattern":{"String":"-"},"behavior":"MergedWithPrevious","invert":false})",
       "-the-final--countdown-", "-|the-|final-|-|countdown-", "0-1 1-5 5-11 11-12 12-22"},
      {R"({"type":"Split","pattern":{"String":"-"},"behavior":"MergedWithNext","invert":false})",
       "-the-final--countdown-", "-the|-final|-|-countdown|-", "0-4 4-10 10-11 11-21 21-22"},
      {R"({"type":"Split","pattern":{"String":"-"},"behavior":"Contiguous","invert":false})",
       "-the-final--countdown-", "-|the|-|final|--|countdown|-",
       "0-1 1-4 4-5 5-10 10-12 12-21 21-22"},
      {R"({"type":"Split","pattern":{"Regex":"\\p{L}+"},"behavior":"Removed","invert":true})",
       "ab 12cd", "ab|cd", "0-2 5-7"},
      {R"({"type":"Split","pattern":{"Regex":"x*"},"behavior":"Isolated","invert":false})", "axb",
       "a|x|b", "0-1 1-2 2-3"},
      {R"({"type":"Punctuation","behavior":"Isolated"})", "a.b,,c", "a|.|b|,|,|c",
       "0-1 1-2 2-3 3-4 4-5 5-6"},
      {R"({"type":"Punctuation","behavior":"MergedWithPrevious"})", "a.b,,c", "a.|b,|,|c",
       "0-2 2-4 4-5 5-6"},
      {R"({"type":"Digits","individual_digits":true})", "a12\u0663b", "a|1|2|\u0663|b",
       "0-1 1-2 2-3 3-4 4-5"},
      {R"({"type":"Digits","individual_digits":false})", "a12\u0663b\u00BD", "a|12\u0663|b|\u00BD",
       "0-1 1-4 4-5 5-6"},
      {R"({"type":"CharDelimiterSplit","delimiter":"|"})", "a||b|", "a|b", "0-1 3-4"},
      {R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true})", "a  b",
       "\u2581a|\u2581|\u2581b", "0-1 1-2 2-4"},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":false})", " a b",
       "_a_b", "0-4"},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"never","split":true})", "a b_c",
       "a|_b|_c", "0-1 1-3 3-5"},
      {R"({"type":"Metaspace","replacement":"_","add_prefix_space":true})", "a b", "_a|_b",
       "0-1 1-3"},
      {R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true})",
       "\u00E9 it's\012\012 12", "\u0120\u00C3\u00A9|\u0120it|'s|\u010A\u010A|\u012012",
       "0-1 1-4 4-6 6-8 8-11"},
      {R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})",
       "a b", "a\u0120b", "0-3"},
      {R"({"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Digits","individual_digits":true},{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true}]})",
       "a1 b", "_a|1|b", "0-1 1-2 3-4"},
  };
  for (const Row& r : rows) {
    Json j = bare_file();
    j["pre_tokenizer"] = parse_json(r.stage, "stage");
    const Encoding e = parse_tokenizer_json(json_text(j), "F")->encode(r.text);
    EXPECT_EQ(joined(e.tokens, "|"), r.tokens) << r.stage;
    EXPECT_EQ(shown_offsets(e), r.offsets) << r.stage;
  }
}

TEST(Models, TokensOfWords) {
  const Row rows[] = {
      {R"({"type":"BPE","vocab":{"<u>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6},"merges":["a b","ab c"]})",
       "abcab", "abc|ab", "0-3 3-5"},
      {R"({"type":"BPE","vocab":{"<u>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6},"merges":[["b","c"],["a","b"],["a","bc"]]})",
       "abcab", "abc|ab", "0-3 3-5"},
      {R"({"type":"BPE","vocab":{"<u>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6},"merges":["a b"]})",
       "axb", "ab", "0-2"},
      {R"({"type":"BPE","vocab":{"<u>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6},"merges":["a b"],"unk_token":"<u>"})",
       "xxaby", "<u>|<u>|ab|<u>", "0-1 1-2 2-4 4-5"},
      {R"({"type":"BPE","vocab":{"<u>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6},"merges":["a b"],"unk_token":"<u>","fuse_unk":true})",
       "xx\u00E9aby", "<u>|ab|<u>", "0-3 3-5 5-6"},
      {R"({"type":"BPE","vocab":{"<u>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6,"<0xC3>":7,"<0xA9>":8},"merges":["a b"],"unk_token":"<u>","byte_fallback":true})",
       "a\u00E9x", "a|<0xC3>|<0xA9>|<u>", "0-1 1-2 1-2 2-3"},
      {R"({"type":"BPE","vocab":{"<u>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6},"merges":["a b"],"ignore_merges":true})",
       "abc ab", "abc|ab", "0-3 4-6"},
      {R"({"type":"BPE","vocab":{"a":0,"b":1,"##b":2,"ab":3,"##c":4},"merges":["a ##b"],"continuing_subword_prefix":"##"})",
       "abcb", "ab|##c|##b", "0-2 2-3 3-4"},
      {R"({"type":"BPE","vocab":{"a":0,"b":1,"b</w>":2,"ab</w>":3},"merges":["a b</w>"],"end_of_word_suffix":"</w>"})",
       "ab bab", "ab</w>|b|ab</w>", "0-2 3-4 4-6"},
      {R"({"type":"Unigram","unk_id":0,"vocab":[["<u>",0.0],["a",-1.0],["b",-2.0],["ab",-2.5],["abc",-9.0],["<0xC3>",-20.0],["<0xA9>",-20.0]],"byte_fallback":false})",
       "ababc x\u00E9a", "ab|abc|x\u00E9|a", "0-2 2-5 6-8 8-9"},
      {R"({"type":"Unigram","unk_id":0,"vocab":[["<u>",0.0],["a",-1.0],["b",-2.0],["ab",-2.5],["abc",-9.0],["<0xC3>",-20.0],["<0xA9>",-20.0]],"byte_fallback":true})",
       "a\u00E9b", "a|<0xC3>|<0xA9>|b", "0-1 1-2 1-2 2-3"},
      {R"({"type":"WordLevel","vocab":{"<u>":0,"ab":1},"unk_token":"<u>"})", "ab abc", "ab|<u>",
       "0-2 3-6"},
      {R"({"type":"WordPiece","unk_token":"<u>","continuing_subword_prefix":"##","max_input_chars_per_word":4,"vocab":{"<u>":0,"a":1,"ab":2,"##c":3,"##cd":4,"##d":5}})",
       "abcd abdc abx acddd", "ab|##cd|ab|##d|##c|<u>|<u>", "0-2 2-4 5-7 7-8 8-9 10-13 14-19"},
  };
  for (const Row& r : rows) {
    Json j = bare_file();
    j["model"] = parse_json(r.stage, "stage");
    j["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
    const auto t = parse_tokenizer_json(json_text(j), "F");
    for (int again = 0; again < 2; ++again) {  // the second time words are in the cache
      const Encoding e = t->encode(r.text);
      EXPECT_EQ(joined(e.tokens, "|"), r.tokens) << r.stage;
      EXPECT_EQ(shown_offsets(e), r.offsets) << r.stage;
    }
  }
}

TEST(AddedTokens, AreFoundFirst) {
  const struct {
    const char *flags, *normalizer, *text, *tokens, *offsets, *ids;
  } rows[] = {
      {R"({})", R"(null)", "a<m>b <m>", "a|<m>|b|<m>", "0-1 1-4 4-5 6-9", "0 1 0 1"},
      {R"({"lstrip":true})", R"(null)", "a  <m> <m>b", "a|  <m>| <m>|b", "0-1 1-6 6-10 10-11",
       "0 1 1 0"},
      {R"({"rstrip":true})", R"(null)", "a <m>\u3000 <m>  ", "a|<m>\u3000 |<m>  ", "0-1 2-7 7-12",
       "0 1 1"},
      {R"({"lstrip":true,"rstrip":true})", R"(null)", " <m> <m> ", " <m> |<m> ", "0-5 5-9", "1 1"},
      {R"({"single_word":true,"content":"the"})", R"(null)", "the there the_ bathe (the)",
       "the|there|the_|bathe|(|the|)", "0-3 4-9 10-14 15-20 21-22 22-25 25-26", "1 0 0 0 0 1 0"},
      {R"({"content":"Yes","normalized":true})", R"({"type":"Lowercase"})", "YES yes Yesx",
       "yes|yes|yes|x", "0-3 4-7 8-11 11-12", "1 1 1 0"},
      {R"({"content":"Yes"})", R"({"type":"Lowercase"})", "YES yes Yesx", "yes|yes|Yes|x",
       "0-3 4-7 8-11 11-12", "0 0 1 0"},
      {R"({"content":" a"})", R"(null)", "b a a", "b| a| a", "0-1 1-3 3-5", "0 1 1"},
  };
  for (const auto& r : rows) {
    Json j = bare_file();
    j["normalizer"] = parse_json(r.normalizer, "normalizer");
    j["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
    Json token = {{"id", 1}, {"content", "<m>"}, {"special", true}, {"normalized", false}};
    token.update(parse_json(r.flags, "flags"));
    j["added_tokens"].push_back(token);
    const Encoding e = parse_tokenizer_json(json_text(j), "F")->encode(r.text);
    EXPECT_EQ(joined(e.tokens, "|"), r.tokens) << r.flags;
    EXPECT_EQ(shown_offsets(e), r.offsets) << r.flags;
    EXPECT_EQ(fmt::format("{}", fmt::join(e.ids, " ")), r.ids) << r.flags;
  }
}

TEST(Decoders, TextOfTokens) {
  const struct {
    const char* stage;
    std::vector<std::string> tokens;
    const char* text;
  } rows[] = {
      {R"({"type":"WordPiece","prefix":"##","cleanup":true})",
       {"##un", "do", "##able", ",", "do", "n't", "!", "##x"},
       "##un doable, don't!x"},
      {R"({"type":"WordPiece","prefix":"##","cleanup":false})", {"a", ",", "##b"}, "a ,b"},
      {R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})",
       {"\u0120a", "\u00C3", "\u00A9", "\u4E2D x", "\u00E4\u00B8", "!"},
       " a\u00E9\u4E2D x\uFFFD!"},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":true})",
       {"_a_", "_b", "c_"},
       "a bc "},
      {R"({"type":"Metaspace","replacement":"_","prepend_scheme":"never","split":true})",
       {"_a", "_b"},
       " a b"},
      {R"({"type":"ByteFallback"})",
       {"a", "<0xE4>", "<0xB8>", "<0xAD>", "b", "<0xE4>", "<0xB8>", "c", "<0x41>"},
       "a\u4E2Db\uFFFD\uFFFDcA"},
      {R"({"type":"BPEDecoder","suffix":"</w>"})", {"th", "e</w>", "end</w>"}, "the end"},
      {R"({"type":"Strip","content":"H","start":1,"stop":2})", {"HHey", "yHHH"}, "HeyyH"},
      {R"({"type":"Replace","pattern":{"Regex":"[ab]+"},"content":"-"})", {"xaby", "b"}, "x-y-"},
      {R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"_"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})",
       {"_a", "<0xC3>", "<0xA9>", "_b"},
       "a\u00E9 b"},
  };
  for (const auto& r : rows) {
    Json j = bare_file();
    j["decoder"] = parse_json(r.stage, "stage");
    std::vector<int64_t> ids;
    for (const std::string& token : r.tokens) {
      ids.push_back(static_cast<int64_t>(j["model"]["vocab"].size()));
      j["model"]["vocab"].push_back({token, -1});
    }
    EXPECT_EQ(parse_tokenizer_json(json_text(j), "F")->decode(ids), r.text) << r.stage;
  }
}

}  // namespace
}  // namespace graft::testing
