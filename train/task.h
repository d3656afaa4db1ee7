// A task ready for training: encoded examples, what is predicted, how it is measured, in which
// order it is seen.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/tokenizer.h"
#include "train/wordnet.h"

namespace graft {

// Where nothing is to be predicted.
inline constexpr int64_t kNoLabel = -100;

enum class TaskKind : uint8_t { classification, regression, language };

struct Example {
  std::string id;
  std::vector<int64_t> ids, types;
  std::string picture = {};  // the file, for a model that reads pictures
  int64_t label = 0;         // classification
  double target = 0;         // regression: what the model is to give
  double score = 0;          // regression: as in the file
  // Language: what comes behind each of the ids, kNoLabel where that is not asked for; of a model
  // with two stacks what its decoder is to say. And how many bytes of text the labels stand for.
  std::vector<int64_t> next;
  int64_t bytes = 0;
};

// What a model may say in a labelled task, and what that means.
struct Answer {
  std::string word;
  int64_t label = 0;                 // classification
  double score = 0;                  // regression
  std::vector<int64_t> tokens = {};  // of the word, and the end token
};

struct Task {
  std::string name;
  TaskKind kind = TaskKind::classification;
  int64_t classes = 0;              // of a classification
  std::vector<std::string> labels;  // their names; empty where the rows give numbers
  std::string metric;               // that decides which checkpoint is best
  // Text to text: a language model says the label. Empty: a head on top of the model gives it.
  std::vector<Answer> answers;
  std::vector<Example> train, dev, test;
  // Rows of something else that is measured as well: what a model could do before.
  std::string also_name;
  std::vector<Example> also;

  int64_t outputs() const { return kind == TaskKind::classification ? classes : 1; }
  // What the loss is that of.
  TaskKind trained_as() const { return answers.empty() ? kind : TaskKind::language; }
};

struct TaskOptions {
  std::string wordnet_folder = kWordnetFolder;
  int64_t max_length = 64;
  int64_t train_size = 0;  // 0: all rows; else the first ones
  // Columns of user files; empty: text, sentence or text_a; text_pair or text_b; label.
  std::string text_column, text_pair_column, label_column;
  std::string dev,
      test;             // files; without them a tenth of the rows each, chosen by hash of the text
  int64_t classes = 0;  // of whole-number labels; 0: one more than the largest in training
  bool regression = false;    // labels are numbers to be met even if all of them are whole
  bool text_to_text = false;  // a labelled task's labels are words that the model is to say
  bool two_stacks = false;    // for a model with an encoder and a decoder
  // Columns of prompts and completions; empty: prompt, completion.
  std::string prompt_column, completion_column;
  // Of conversations: their column, empty: messages, conversations; how they are written, a name of
  // chat_templates() or "auto", the model folder's, which conversations have where it is empty.
  // Prompts and completions are one question and its answer where it is not.
  std::string messages_column, chat_template, model_folder;
  std::vector<std::string> train;  // text files of the task lm
  std::string also_test;           // a file like test that is measured as well
  // accuracy, macro_f1, matthews, pearson, spearman, perplexity, bits_per_byte; empty: the first
  // that fits.
  std::string metric;
};

int64_t predicted_tokens(const Example& row);  // of a language task

// wordnet:NAME; lm, whose text options.train names; NAME.train.tsv as `graft data` writes it (dev
// and test stand beside it); or any FILE.jsonl, .csv, .tsv, of labelled texts, of prompts with
// completions or of conversations. Throws UsageError, FileError with file and line.
Task load_task(const std::string& spec, const Tokenizer& tokenizer, const TaskOptions& options);

// The same from rows in memory. Labels: whole numbers from 0 (classes), other numbers (regression),
// or names (classes in alphabetical order).
Task make_task(std::string name, std::span<const TaskRow> train, std::span<const TaskRow> dev,
               std::span<const TaskRow> test, const Tokenizer& tokenizer,
               const TaskOptions& options = {});

// The metric that is asked for, or the first that fits. Throws UsageError for one that does not.
void set_metric(Task& task, const std::string& wanted);

// Metrics by name, of predicted classes or of scores; of a language task a score is the row's
// negative log likelihood.
struct Predictions {
  std::vector<int64_t> classes;
  std::vector<double> scores;
};
std::map<std::string, double> metrics_of(const Task& task, std::span<const Example> rows,
                                         const Predictions& predicted);

// Where a row belongs, by its text, in a file that is not divided: rows of one text fall into the
// same part whatever the order of the file.
enum class TaskPart : uint8_t { train, dev, test };
TaskPart part_of(const std::string& text);

// Rows of one epoch in batches: ordered by a hash of seed, epoch and id; chunks of 512 sorted by
// length; batches shuffled by hash.
std::vector<std::vector<size_t>> epoch_batches(const std::vector<Example>& rows, size_t batch,
                                               int64_t seed, int64_t epoch);
// Sorted by length, for evaluation.
std::vector<std::vector<size_t>> sorted_batches(const std::vector<Example>& rows, size_t batch);

}  // namespace graft
