// What is written is whole or not there, whatever goes wrong while it is written.
#include "core/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <thread>

#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/temporary_folder.h"

namespace graft {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

constexpr int kNotAllowed = 77;

// f's result as the exit status of a child, whose limits and mounts are its own.
int in_child(const std::function<int()>& f) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(f());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

constexpr size_t kLarge = 1 << 20;

// Every way to write a file, with more than a small disk holds.
const std::pair<const char*, void (*)(const std::string&)> kWriters[] = {
    {"text", [](const std::string& path) { write_file(path, std::string(kLarge, 'x')); }},
    {"JSON",
     [](const std::string& path) {
       write_json_file(path, Json{{"a", std::string(kLarge, 'x')}});
     }},
    {"tensors",
     [](const std::string& path) {
       save_safetensors(path, {{"w", Tensor(DType::f32, Shape{int64_t{kLarge} / 4})}});
     }},
};

// Writes over the files "old-NAME" of the folder: 0 where each failed with `reason`, left the old
// content, and nothing else remains.
int check_full(const TemporaryFolder& folder, const char* reason) {
  for (const auto& [name, write] : kWriters) {
    const std::string path = folder / name;
    const size_t before = folder.entries();
    const std::string error = error_of([&, write_to = write] { write_to(path); });
    if (error.find(reason) == std::string::npos || error.find(path) == std::string::npos ||
        error.find("make room") == std::string::npos) {
      std::fprintf(stderr, "%s: %s\n", name, error.c_str());
      return 1;
    }
    if (read_file(path) != "old" || folder.entries() != before) return 2;
  }
  return 0;
}

void put_old_files(const TemporaryFolder& folder) {
  for (const auto& [name, write] : kWriters) write_file(folder / name, "old");
}

TEST(AtomicFiles, ALimitOnFileSizeLosesNothing) {
  const TemporaryFolder folder;
  put_old_files(folder);
  EXPECT_EQ(in_child([&] {
              std::signal(SIGXFSZ, SIG_IGN);
              const struct rlimit limit { 1000, 1000 };
              ::setrlimit(RLIMIT_FSIZE, &limit);
              return check_full(folder, "File too large");
            }),
            0);
}

// A disk of 64 KiB in memory, seen by the child alone.
TEST(AtomicFiles, AFullDiskLosesNothing) {
  const TemporaryFolder folder;
  const int status = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
      return kNotAllowed;
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
      return kNotAllowed;
    }
    put_old_files(folder);
    return check_full(folder, "No space left");
  });
  if (status == kNotAllowed) GTEST_SKIP() << "mounting a small disk is not allowed here";
  EXPECT_EQ(status, 0);
}

TEST(AtomicFiles, WithoutCommitNothingRemains) {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "f");
    file.write("half");
    file.sync();
    EXPECT_EQ(folder.entries(), 1u);
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(AtomicFiles, AnotherWriterOfTheSameFileDoesNotMixIn) {
  const TemporaryFolder folder;
  const std::string path = folder / "f";
  std::vector<std::thread> writers;
  for (char c = 'a'; c < 'e'; ++c) {
    writers.emplace_back([&path, c] {
      for (int i = 0; i < 8; ++i) write_file(path, std::string(kLarge / 8, c));
    });
  }
  for (std::thread& t : writers) t.join();
  const std::string content = read_file(path);
  EXPECT_EQ(content, std::string(kLarge / 8, content.at(0)));
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFiles, WhatCannotBeReplacedIsRefused) {
  const TemporaryFolder folder;
  make_folders(folder / "folder");
  write_file(folder / "file", "x");
  const struct {
    std::string path;
    const char* message;
  } cases[] = {
      {folder / "folder", "it is a folder; give the name of a file"},
      {"/dev/null", "it is not a regular file"},
      {"/dev/full", "it is not a regular file"},
      {folder / "none/f", "does the folder exist?"},
      {folder / "file/f", "Not a directory"},
      {folder / std::string(300, 'n'), "File name too long"},
      {"/proc/graft", "cannot create"},  // a folder that even root cannot write to
  };
  for (const auto& c : cases) {
    const std::string error = error_of([&] { write_file(c.path, "y"); });
    EXPECT_NE(error.find(c.message), std::string::npos) << c.path << ": " << error;
    EXPECT_NE(error.find(c.path), std::string::npos) << error;
  }
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_EQ(folder.entries(), 2u);
  EXPECT_NE(error_of([&] { make_folders(folder / "file/x"); }).find("cannot create the folder"),
            std::string::npos);
}

TEST(AtomicFiles, PermissionsAndLinksAreKept) {
  const TemporaryFolder folder;
  make_folders(folder / "store");
  write_file(folder / "store/real", "old");
  std::filesystem::create_symlink("store/real", folder / "link");
  ASSERT_EQ(::chmod((folder / "store/real").c_str(), 0640), 0);
  write_file(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "store/real"), "new");
  struct stat info {};
  ASSERT_EQ(::stat((folder / "store/real").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  const mode_t mask = ::umask(027);
  write_file(folder / "fresh", "x");
  ::umask(mask);
  ASSERT_EQ(::stat((folder / "fresh").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

// Whoever has mapped the old file goes on reading it.
TEST(AtomicFiles, ReplacingLeavesMappingsWhole) {
  const TemporaryFolder folder;
  const std::string path = folder / "t";
  save_safetensors(path, {{"w", Tensor::from<float>({1}, {1})}});
  const SafeTensors old = SafeTensors::open(path);
  save_safetensors(path, {{"w", Tensor::from<float>({1}, {2})}});
  EXPECT_EQ(old.tensor("w").data<float>()[0], 1);
  EXPECT_EQ(SafeTensors::open(path).tensor("w").data<float>()[0], 2);
}

}  // namespace
}  // namespace graft
