// Files are hostile: each damage has its message, and what is written is whole or not there.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/safetensors.h"

namespace graft {
namespace {

class Files : public ::testing::Test {
 protected:
  Files()
      : folder_(std::filesystem::temp_directory_path() /
                fmt::format("graft-files-{}", ::getpid())) {
    make_folders(folder_);
  }
  ~Files() override { std::filesystem::remove_all(folder_); }
  std::string path(const char* name) const { return folder_ + "/" + name; }
  std::string folder_;
};

template <typename F>
std::string error_of(F f) {
  try {
    f();
  } catch (const FileError& e) {
    return e.what();
  }
  return "";
}

// A safetensors file with this header and so many bytes of data.
std::string file_with(const std::string& header, size_t data) {
  std::string s(8, '\0');
  const uint64_t n = header.size();
  std::memcpy(s.data(), &n, 8);
  return s + header + std::string(data, '\1');
}

std::string parse_error(std::string bytes) {
  return error_of([&] {
    SafeTensors::parse({reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}, nullptr, "FILE");
  });
}

TEST_F(Files, SafeTensorsRoundTripAndLayout) {
  save_safetensors(
      path("t"), {{"w", Tensor::from<float>({2}, {1, 2})}, {"a", Tensor::from<int64_t>({1}, {7})}});
  const SafeTensors st = SafeTensors::open(path("t"));
  EXPECT_EQ(st.tensor("w").data<float>()[1], 2);
  EXPECT_EQ(st.tensor("a").data<int64_t>()[0], 7);
  EXPECT_EQ(st.metadata().at("format"), "pt");
  // As the reference library writes it: wider types first, the header padded to eight bytes.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
  const std::string bytes = read_file(path("t"));
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ((bytes.size() - 16) % 8, 0u);
  EXPECT_NE(error_of([&] { st.tensor("x"); }).find("there is no tensor 'x'"), std::string::npos);
}

TEST_F(Files, HostileSafeTensors) {
  const std::pair<std::string, const char*> cases[] = {
      {"1234", "too few"},
      {file_with("{}", 0).substr(0, 9), "truncated"},
      {file_with("{", 0), "not valid JSON"},
      {file_with("[]", 0), "not a JSON object"},
      {file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4), "do not lie in"},
      {file_with(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), "takes 12 bytes"},
      {file_with(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8),
       "'F31' is not known"},
      {file_with(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "negative"},
      {file_with(
           R"({"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8]}})",
           8),
       "too large"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4),
       "dimensions"},
      {file_with(
           R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
           6),
       "overlap"},
      {file_with(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 6), "follow the last"},
      {file_with(R"({"a":{"dtype":"U8","shape":4,"data_offsets":[0,4]}})", 4),
       "'shape' should be a list"},
      {file_with(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4), "'shape' is missing"},
      {file_with(std::string(100, '['), 0), "nested deeper"},
  };
  for (const auto& [bytes, message] : cases)
    EXPECT_NE(parse_error(bytes).find(message), std::string::npos)
        << message << ": " << parse_error(bytes);
}

TEST_F(Files, JsonErrorsHaveAPlace) {
  EXPECT_NE(error_of([] { parse_json("{\n \"a\": }", "F"); }).find("F: line 2"), std::string::npos);
  const Json j = parse_json(R"({"n": "x"})", "F");
  EXPECT_NE(error_of([&] { json_field<int64_t>(j, "n", "F"); }).find("'n' should be an integer"),
            std::string::npos);
  EXPECT_NE(error_of([&] { json_field<int64_t>(j, "m", "F"); }).find("'m' is missing"),
            std::string::npos);
}

TEST_F(Files, MissingFileNamesIt) {
  EXPECT_NE(error_of([&] { MappedFile::open(path("none")); }).find("none"), std::string::npos);
}

// A limit on file size stands for a full disk: the write fails half-way, the old file stays,
// nothing else remains.
TEST_F(Files, AFullDiskLosesNothing) {
  write_file(path("f"), "old");
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit { 1000, 1000 };
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = error_of([&] { write_file(path("f"), std::string(5000, 'x')); });
    _exit(message.find("make room") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(path("f")), "old");
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_)) ++files;
  EXPECT_EQ(files, 1u);
}

}  // namespace
}  // namespace graft
