// The rooms know each other in one direction only (docs/engine.md): every #include is read, and one
// that points up fails.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"core", {"core"}},
    {"kernels", {"core", "kernels"}},
    {"autograd", {"core", "kernels", "autograd"}},
    {"nn", {"core", "kernels", "autograd", "nn"}},
    {"peft", {"core", "kernels", "autograd", "peft"}},
    {"models", {"core", "kernels", "autograd", "nn", "models"}},
    {"train", {"core", "kernels", "autograd", "nn", "peft", "models", "train"}},
    {"apps", {"core", "kernels", "autograd", "nn", "peft", "models", "train", "apps"}},
};

TEST(Rooms, NoIncludePointsUp) {
  const std::regex include(R"re(^\s*#\s*include\s+"([a-z]+)/)re");
  size_t files = 0;
  for (const auto& [room, allowed] : kMayInclude) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(GRAFT_SOURCE_DIR) / room)) {
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cc") continue;
      ++files;
      std::ifstream in(entry.path());
      std::smatch match;
      for (std::string line; std::getline(in, line);) {
        if (!std::regex_search(line, match, include) || !kMayInclude.contains(match[1])) continue;
        EXPECT_TRUE(allowed.contains(match[1])) << entry.path() << ": " << line;
      }
    }
  }
  EXPECT_GT(files, 50u);
}

// Of autograd, kernels may be called by backend and name only; of the kernels, autograd sees the
// interface alone.
TEST(Rooms, AutogradSeesOnlyTheKernelInterface) {
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(GRAFT_SOURCE_DIR) / "autograd")) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) {
      const bool deep = line.find("#include \"kernels/cpu/") != std::string::npos ||
                        line.find("#include \"kernels/ref/") != std::string::npos;
      EXPECT_FALSE(deep) << entry.path() << ": " << line;
    }
  }
}

}  // namespace
