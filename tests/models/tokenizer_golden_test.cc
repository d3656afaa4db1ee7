// Tokenizers against Hugging Face tokenizers: ids, tokens, offsets, pairs, truncation, decoding;
// all exact.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/json.h"
#include "models/tokenizer.h"
#include "tests/support/golden.h"
#include "tests/support/minilm.h"

namespace graft::testing {
namespace {

std::vector<std::pair<int64_t, int64_t>> offsets_of(const Json& j) {
  std::vector<std::pair<int64_t, int64_t>> out;
  for (const Json& o : j) out.emplace_back(o[0].get<int64_t>(), o[1].get<int64_t>());
  return out;
}

size_t check(const std::string& file, const Tokenizer& t) {
  const Json golden = parse_json_file(file);
  size_t cases = 0;
  for (const Json& c : golden.at("cases")) {
    const auto text = c.at("text").get<std::string>();
    const Encoding e = t.encode(text);
    EXPECT_EQ(e.ids, c.at("ids").get<std::vector<int64_t>>()) << text;
    EXPECT_EQ(e.tokens, c.at("tokens").get<std::vector<std::string>>()) << text;
    if (c.contains("offsets")) {
      EXPECT_EQ(e.offsets, offsets_of(c.at("offsets"))) << text;
    }
    if (c.contains("special_mask")) {
      EXPECT_EQ(e.special, c.at("special_mask").get<std::vector<uint8_t>>()) << text;
    }
    if (c.contains("ids_plain")) {
      EXPECT_EQ(t.encode(text, false).ids, c.at("ids_plain").get<std::vector<int64_t>>()) << text;
    }
    EXPECT_EQ(t.decode(e.ids), c.at("decoded").get<std::string>()) << text;
    EXPECT_EQ(t.decode(e.ids, false), c.at("decoded_with_special").get<std::string>()) << text;
    ++cases;
  }
  if (golden.contains("pairs")) {
    for (const Json& c : golden.at("pairs")) {
      const Encoding e =
          t.encode_pair(c.at("text").get<std::string>(), c.at("pair").get<std::string>());
      EXPECT_EQ(e.ids, c.at("ids").get<std::vector<int64_t>>());
      EXPECT_EQ(e.type_ids, c.at("type_ids").get<std::vector<int64_t>>());
      EXPECT_EQ(e.offsets, offsets_of(c.at("offsets")));
      ++cases;
    }
  }
  if (golden.contains("padded")) {
    const Json& p = golden.at("padded");
    const auto length = p.at("max_length").get<int64_t>();
    for (size_t i = 0; i < p.at("ids").size(); ++i) {
      auto ids = t.encode(p.at("texts")[i].get<std::string>(), true, length).ids;
      const auto want = p.at("ids")[i].get<std::vector<int64_t>>();
      ids.resize(want.size(), 0);
      EXPECT_EQ(ids, want);
      ++cases;
    }
  }
  return cases;
}

TEST(GoldenTokenizers, Exact) {
  const std::string dir = golden_dir() + "/tokenizers/";
  const Json index = parse_json_file(dir + "index.json");
  const Json& list = index.is_object() ? index.begin().value() : index;
  size_t cases = 0;
  for (const Json& entry : list) {
    const auto name =
        entry.is_string() ? entry.get<std::string>() : entry.at("name").get<std::string>();
    const std::string folder = dir + name, file = folder + "/encodings.json";
    SCOPED_TRACE(name);
    cases += check(file, *load_tokenizer(name == "minilm_bert" ? minilm_folder() : folder));
  }
  EXPECT_GT(cases, 0u);
  std::printf("golden tokenizers: %zu cases, 0 not supported\n", cases);
}

}  // namespace
}  // namespace graft::testing
