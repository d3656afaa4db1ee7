// Labelled tasks in words, as T5 has them (1910.10683, section 2.4): the text asks, and what the
// model says behind it is the label.
#pragma once

#include <string>
#include <vector>

#include "train/task.h"

namespace graft {

// What may be answered: the name of each class, or its number where `names` is empty; for scores up
// to `scale` either way twenty-five steps (STS-B in T5: 0.0, 0.2, ..., 5.0). Throws UsageError
// where two of them have the same tokens.
std::vector<Answer> answers_for(const Task& task, double scale,
                                const std::vector<std::string>& names, const Tokenizer& tokenizer,
                                const TaskOptions& options);

// The row as a question with its answer. `x` has its label or score.
Example asked(const Task& task, const TaskRow& row, const Example& x, const Tokenizer& tokenizer,
              const TaskOptions& options);

// What a model has said, up to the end token, as predictions: a class, or -1; a score, or -1 as in
// T5.
Predictions meaning_of(const Task& task, const std::vector<std::vector<int64_t>>& said);

// What the model reads before it says something.
std::vector<int64_t> question_of(const Example& row, bool two_stacks);

}  // namespace graft
