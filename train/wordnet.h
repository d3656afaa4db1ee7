// The four tasks that are cut from WordNet 3.0 by exact rules: supersense, nli, gloss, sim. No
// random numbers: every choice is a hash of a string, so that the files are the same bytes
// everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

// FNV-1a, then SplitMix64's finalizer.
uint64_t task_hash(std::string_view s);

struct TaskRow {
  std::string id, label, text_a, text_b;
};

struct WordnetTask {
  std::string name;
  std::vector<TaskRow> train, dev, test;
};

inline constexpr const char* kWordnetFolder =
    "/usr/share/wordnet";  // of the Debian package wordnet-base

inline constexpr double kWordnetScale = 5;  // the largest score of sim

std::vector<std::string> wordnet_task_names();

// Throws UsageError for an unknown name, FileError when the data files are missing or damaged.
WordnetTask build_wordnet_task(const std::string& name,
                               const std::string& wordnet_folder = kWordnetFolder);

// NAME.train.tsv, .dev.tsv, .test.tsv and .train256.tsv; returns their paths.
std::vector<std::string> write_wordnet_task(const WordnetTask& task, const std::string& folder);

}  // namespace graft
