// The tasks are the same bytes everywhere.
#include "train/wordnet.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "core/atomic_file.h"
#include "core/error.h"

namespace graft {
namespace {

std::string sha256(const std::string& bytes) {
  unsigned char digest[32];
  EVP_Digest(bytes.data(), bytes.size(), digest, nullptr, EVP_sha256(), nullptr);
  std::string text;
  for (unsigned char b : digest) text += fmt::format("{:02x}", b);
  return text;
}

const std::map<std::string, std::string> kSha256 = {
    {"supersense.train.tsv", "7365c86e7e90d012ccaa1f4c67fe04720b2219c09deae303109ff706e7094972"},
    {"supersense.dev.tsv", "4c91ff198869afb03cbe0c788753b6d44e63d90b506b9fd7b144866e3ed1c322"},
    {"supersense.test.tsv", "179536a53ef749de352cfea0a25a3c939be002a0c39c82672207bb4d5b107e5e"},
    {"supersense.train256.tsv", "486a58aa11c93c32a64b1ea6e5ac928320b863d98eb2f03c6773efd1cfab2456"},
    {"nli.train.tsv", "06341ab92ab5227038ddf02f26885ad57c59a72aafa476425d1cbaee1cad655c"},
    {"nli.dev.tsv", "0b34321ec565804f06766e1e765a846c538b35505abb446a4c3f0979a321a232"},
    {"nli.test.tsv", "ec6ad3e0fd6b03baf692067c73a7fcf5abef05a1f0ef98e545c1f5f7e9ecade1"},
    {"nli.train256.tsv", "ae3f5165ff4dce4036b642e81500301c8c69afa2963cad1b32d414086394f9a1"},
    {"gloss.train.tsv", "43a6d7af1d3de9e8febe6c8cf61718a6edeba71d0653ef7560b54946f338daa2"},
    {"gloss.dev.tsv", "6f27affe076c5a29f0c0e791f51db34ced6ec100062ea106e387e2c3814ce279"},
    {"gloss.test.tsv", "9c88fab3aaf6d7a3a45f452725ceebf7f76e9410a39029364130e055f2814958"},
    {"gloss.train256.tsv", "f4afdec23ff3b12cbd7eb1468f8119a4d552c8d33a2d9ca62e313585d87363e3"},
    {"sim.train.tsv", "5404af4f8bb4aab9ffb26fc363ea459b0be6dd0462f1fbaa07a7674153f35cc5"},
    {"sim.dev.tsv", "a33d7f5b7db129ca7b5c0946f7fe9c5b7c5e646b3a53838076fd37ad160823f0"},
    {"sim.test.tsv", "a66ee65f50ebf2ee7eff946a456309541b323c2cb1c798c2a3a5c0f5e7140a9c"},
    {"sim.train256.tsv", "f3d9d1f6d6a2b7b222983fb7117e7b0aad045ccf62aeef993dea7d070ecac19b"}};

TEST(Wordnet, Hash) {
  EXPECT_EQ(task_hash(""), 0xc3817c016ba4ff30u);
  EXPECT_EQ(task_hash("a"), 0x5f29c2aadd9b8527u);
  EXPECT_EQ(task_hash("split:n00001740"), 0x767f63bbc2cf0ce3u);
}

TEST(Wordnet, FilesAreExact) {
  const std::string folder =
      std::filesystem::temp_directory_path() / fmt::format("graft-wordnet-{}", ::getpid());
  size_t files = 0;
  for (const std::string& name : wordnet_task_names()) {
    for (const std::string& path : write_wordnet_task(build_wordnet_task(name), folder)) {
      EXPECT_EQ(sha256(read_file(path)), kSha256.at(std::filesystem::path(path).filename()))
          << path;
      ++files;
    }
  }
  EXPECT_EQ(files, kSha256.size());
  std::filesystem::remove_all(folder);
}

TEST(Wordnet, UnknownTaskListsTheKnown) {
  try {
    build_wordnet_task("weather");
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("supersense, nli, gloss, sim"), std::string::npos);
  }
}

TEST(Wordnet, MissingFolderNamesTheFile) {
  EXPECT_THROW(build_wordnet_task("sim", "/nonexistent"), FileError);
}

}  // namespace
}  // namespace graft
