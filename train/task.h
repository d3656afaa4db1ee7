// A task ready for training: encoded examples, what is predicted, how it is measured, in which order it is seen.
#pragma once

#include <string>
#include <vector>

#include "models/tokenizer.h"
#include "train/wordnet.h"

namespace graft {

struct Example {
  std::string id;
  std::vector<int64_t> ids, types;
  int64_t label = 0;   // classification
  double target = 0;   // regression: what the model is to give
  double score = 0;    // regression: as in the file
};

struct Task {
  std::string name;
  int64_t classes = 0;  // 0: regression
  std::string metric;   // accuracy, spearman
  std::vector<Example> train, dev, test;

  int64_t outputs() const { return classes > 0 ? classes : 1; }
};

struct TaskOptions {
  std::string wordnet_folder = kWordnetFolder;
  int64_t max_length = 64;
  int64_t train_size = 0;  // 0: all rows; else the first ones
};

// wordnet:NAME, or a folder's task files by FILE.tsv in the format that `graft data` writes (then dev and test stand beside it).
// Throws UsageError, FileError with file and line.
Task load_task(const std::string& spec, const Tokenizer& tokenizer, const TaskOptions& options);

// Rows of one epoch in batches: ordered by a hash of seed, epoch and id; chunks of 512 sorted by length; batches shuffled by hash.
std::vector<std::vector<size_t>> epoch_batches(const std::vector<Example>& rows, size_t batch, int64_t seed, int64_t epoch);
// Sorted by length, for evaluation.
std::vector<std::vector<size_t>> sorted_batches(const std::vector<Example>& rows, size_t batch);

}  // namespace graft
