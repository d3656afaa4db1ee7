// Files are hostile: each damage has its message.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/atomic_file.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/safetensors.h"
#include "tests/support/temporary_folder.h"

namespace graft {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

// A safetensors file with this header and so many bytes of data.
std::string file_with(const std::string& header, size_t data) {
  std::string s(8, '\0');
  const uint64_t n = header.size();
  std::memcpy(s.data(), &n, 8);
  return s + header + std::string(data, '\1');
}

std::string file_claiming(uint64_t header_size, const std::string& rest) {
  std::string s(8, '\0');
  std::memcpy(s.data(), &header_size, 8);
  return s + rest;
}

std::string parse_error(std::string bytes) {
  return error_of([&] {
    SafeTensors::parse({reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}, nullptr, "FILE");
  });
}

TEST(SafeTensorsFile, RoundTripAndLayout) {
  const TemporaryFolder folder;
  save_safetensors(folder / "t", {{"w", Tensor::from<float>({2}, {1, 2})},
                                  {"a", Tensor::from<int64_t>({1}, {7})}});
  const SafeTensors st = SafeTensors::open(folder / "t");
  EXPECT_EQ(st.tensor("w").data<float>()[1], 2);
  EXPECT_EQ(st.tensor("a").data<int64_t>()[0], 7);
  EXPECT_EQ(st.metadata().at("format"), "pt");
  // As the reference library writes it: wider types first, the header padded to eight bytes.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
  const std::string bytes = read_file(folder / "t");
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ((bytes.size() - 16) % 8, 0u);
  EXPECT_NE(error_of([&] { st.tensor("x"); }).find("there is no tensor 'x'"), std::string::npos);
}

TEST(SafeTensorsFile, HostileFilesAreRefusedWithTheReason) {
  const struct {
    std::string bytes;
    std::vector<const char*> message;
  } cases[] = {
      {"", {"0 bytes are too few"}},
      {"1234", {"4 bytes are too few"}},
      {file_with("{}", 0).substr(0, 9), {"should take 2 bytes", "only 1 follow", "truncated"}},
      {file_claiming(99'999'999, "{}"), {"should take 99999999 bytes", "only 2 follow"}},
      {file_claiming(~uint64_t{0}, "{}"), {"18446744073709551615", "only 2 follow"}},
      {file_claiming(uint64_t{1} << 63, "{}"), {"9223372036854775808", "only 2 follow"}},
      {file_with("", 0), {"(header)", "not valid JSON"}},
      {file_with("{", 0), {"line 1", "not valid JSON"}},
      {file_with("{}{}", 0), {"line 1, column 3", "not valid JSON"}},
      {file_with("{\"\xff\":1}", 0), {"not valid JSON", "UTF-8"}},
      {file_with("[]", 0), {"not a JSON object"}},
      {file_with(std::string(100, '['), 0), {"column 64", "nested deeper than 64"}},
      {file_with(R"({"__metadata__":[]})", 0), {"__metadata__ is not an object"}},
      {file_with(R"({"__metadata__":{"a":1}})", 0), {"__metadata__ 'a' is not a string"}},
      {file_with(R"({"a":7})", 0), {"'a'", "'dtype' is missing"}},
      {file_with(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8),
       {"'a'", "'F31' is not known", "F32, F64, BF16"}},
      {file_with(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4), {"'a'", "'shape' is missing"}},
      {file_with(R"({"a":{"dtype":"U8","shape":4,"data_offsets":[0,4]}})", 4),
       {"'a'", "'shape' should be a list but is 4"}},
      {file_with(R"({"a":{"dtype":"U8","shape":[4.5],"data_offsets":[0,4]}})", 4),
       {"'a'", "'shape' should be a list"}},
      {file_with(R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4),
       {"'a'", "'shape' should be a list", "18446744073709551615"}},
      {file_with(R"({"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,4]}})", 4),
       {"not valid JSON", "1e999"}},
      {file_with(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8),
       {"'a'", "[-2] has a negative dimension"}},
      {file_with(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4),
       {"'a'", "9 dimensions, at most 8"}},
      {file_with(
           R"({"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8]}})",
           8),
       {"'a'", "too large"}},
      {file_with(R"({"a":{"dtype":"U8","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}})",
                 0),
       {"'a'", "too large"}},
      {file_with(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
       {"'a'", "F32 of shape [3] takes 12 bytes", "hold 8"}},
      {file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4),
       {"'a'", "[0, 8] do not lie in the 4 bytes", "cut short"}},
      {file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),
       {"'a'", "[8, 0] do not lie"}},
      {file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", 8),
       {"'a'", "[-8, 0] do not lie"}},
      {file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8),
       {"'a'", "[0] do not lie"}},
      {file_with(
           R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
           6),
       {"'b' begins at byte 2", "expected 4", "overlap"}},
      {file_with(
           R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
           9),
       {"'b' begins at byte 5", "expected 4", "hole"}},
      {file_with(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6),
       {"'a' begins at byte 2", "expected 0"}},
      {file_with(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 6),
       {"2 bytes follow the last tensor"}},
      {file_with(
           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
           4),
       {"the key 'a' stands twice"}},
  };
  for (const auto& c : cases) {
    const std::string error = parse_error(c.bytes);
    EXPECT_TRUE(error.starts_with("FILE")) << error;
    for (const char* part : c.message) {
      EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
    }
  }
}

TEST(JsonText, HostileTextIsRefusedWithItsPlace) {
  const struct {
    std::string text;
    std::vector<const char*> message;
  } cases[] = {
      {"", {"F: line 1, column 0", "not valid JSON"}},
      {"{\n \"a\": }", {"F: line 2, column 7", "not valid JSON", "unexpected '}'"}},
      {std::string("{}\n\0 {", 6), {"F: line 2, column 0", "zero byte"}},
      {"{\"a\": 1} x", {"F: line 1, column 10", "not valid JSON"}},
      {"\"\xc3\x28\"", {"F: line 1", "UTF-8"}},
      {"\"\xed\xa0\x80\"", {"F: line 1", "UTF-8"}},  // half of a surrogate pair
      {"\"\\ud800\"", {"F: line 1", "surrogate"}},
      {"[1e400]", {"F: line 1", "1e400"}},
      {std::string(1'000'000, '['), {"F: line 1, column 64", "nested deeper than 64"}},
      {"[\n" + std::string(1'000'000, '{'), {"F: line 2, column 63", "nested deeper than 64"}},
      {R"({"a": 1, "b": {"c": 1, "c": 2}})", {"F: the key 'c' stands twice"}},
      {"\"" + std::string(1'000'000, 'x'), {"F: line 1", "..."}},
  };
  for (const auto& c : cases) {
    const std::string error = error_of([&] { parse_json(c.text, "F"); });
    EXPECT_LT(error.size(), 400u);
    for (const char* part : c.message) {
      EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
    }
  }
  const std::string brackets_in_text = "\"" + std::string(1000, '[') + "\\\"[\"";
  EXPECT_EQ(parse_json(brackets_in_text, "F").get<std::string>().size(), 1002u);
}

TEST(JsonText, ReadsWhatItWrites) {
  const char* text = R"({"z": [1, -2, 3.5, true, null, "\u00e9"], "a": {}, "m": {"k": []}})";
  const Json j = parse_json(text, "F");
  EXPECT_EQ(j.dump(), R"({"z":[1,-2,3.5,true,null,"é"],"a":{},"m":{"k":[]}})");
  EXPECT_EQ(parse_json(json_text(j), "F"), j);
  EXPECT_EQ(parse_json("7", "F").get<int64_t>(), 7);
}

TEST(JsonText, FieldsAreCheckedForTheirType) {
  const Json j = parse_json(
      R"({"text": "x", "big": 9223372036854775808, "wide": 2147483648, "half": 0.5, "none": null, "mixed": [1, "2"]})",
      "F");
  const std::pair<std::string, const char*> cases[] = {
      {error_of([&] { json_field<int64_t>(j, "text", "F"); }),
       "F: the field 'text' should be an integer of 64 bits but is \"x\""},
      {error_of([&] { json_field<int64_t>(j, "gone", "F"); }),
       "F: the field 'gone' is missing; expected an integer of 64 bits"},
      {error_of([&] { json_field<int64_t>(j, "big", "F"); }),
       "'big' should be an integer of 64 bits but is 9223372036854775808"},
      {error_of([&] { json_field<int32_t>(j, "wide", "F"); }),
       "'wide' should be an integer of 32 bits but is 2147483648"},
      {error_of([&] { json_field<int64_t>(j, "half", "F"); }), "'half' should be an integer"},
      {error_of([&] { json_field<bool>(j, "half", "F"); }), "'half' should be true or false"},
      {error_of([&] { json_field<double>(j, "text", "F"); }), "'text' should be a number"},
      {error_of([&] { json_field<std::string>(j, "none", "F"); }),
       "'none' should be a string but is null"},
      {error_of([&] { json_field<std::vector<int64_t>>(j, "mixed", "F"); }),
       "'mixed' should be a list"},
      {error_of([&] { json_field<int64_t>(Json::array(), "a", "F"); }), "'a' is missing"},
  };
  for (const auto& [error, message] : cases)
    EXPECT_NE(error.find(message), std::string::npos) << error;
  EXPECT_EQ(json_field<int64_t>(j, "none", "F", 3), 3);
  EXPECT_EQ(json_field<uint64_t>(j, "big", "F"), uint64_t{1} << 63);
}

TEST(MappedFiles, WhatIsNotAFileIsRefused) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const std::pair<std::string, const char*> cases[] = {
      {folder / "none", "No such file"},
      {folder.path(), "not a regular file"},
      {folder / "pipe", "not a regular file"},
      {"/dev/zero", "not a regular file"},
  };
  for (const auto& [path, message] : cases) {
    const std::string error = error_of([&path = path] { MappedFile::open(path); });
    EXPECT_NE(error.find(message), std::string::npos) << error;
    EXPECT_NE(error.find(path), std::string::npos) << error;
  }
  write_file(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty"), "");
}

}  // namespace
}  // namespace graft
