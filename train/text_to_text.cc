#include "train/text_to_text.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

#include "core/error.h"
#include "train/language_task.h"

namespace graft {
namespace {

// Scores are said in steps of a twenty-fifth of the largest.
constexpr int64_t kSteps = 25;

std::string question(const std::string& task, const TaskRow& row) {
  return row.text_b.empty()
             ? fmt::format("{} sentence: {}", task, row.text_a)
             : fmt::format("{} sentence1: {} sentence2: {}", task, row.text_a, row.text_b);
}

// A decoder goes on from the question.
Example in_words(const std::string& id, std::string asked, std::string word,
                 const Tokenizer& tokenizer, const TaskOptions& o) {
  if (!o.two_stacks) {
    asked += " label:";
    word = " " + word;
  }
  return answered_row(id, asked, word, tokenizer, o);
}

// One for each class, or for each step.
std::vector<Answer> words_of(const Task& task, double scale,
                             const std::vector<std::string>& names) {
  std::vector<Answer> answers;
  if (task.kind == TaskKind::regression) {
    const double step = scale / kSteps;
    const int digits = std::max(1, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
    for (int64_t k = -kSteps; k <= kSteps; ++k) {
      const double score = static_cast<double>(k) * step;
      answers.push_back({.word = fmt::format("{:.{}f}", score, digits), .score = score});
    }
    return answers;
  }
  for (int64_t k = 0; k < task.classes; ++k) {
    const auto i = static_cast<size_t>(k);
    answers.push_back({.word = i < names.size() ? names[i] : fmt::format("{}", k), .label = k});
  }
  return answers;
}

const Answer& answer_to(const Task& task, const Example& x) {
  if (task.kind != TaskKind::regression) return task.answers[static_cast<size_t>(x.label)];
  const double step = task.answers.back().score / kSteps;
  const int64_t k = std::clamp<int64_t>(std::llround(x.score / step), -kSteps, kSteps);
  return task.answers[static_cast<size_t>(k + kSteps)];
}

std::vector<int64_t> labels_of(const Example& x) {
  std::vector<int64_t> labels;
  std::ranges::copy_if(x.next, std::back_inserter(labels),
                       [](int64_t label) { return label != kNoLabel; });
  return labels;
}

}  // namespace

std::vector<Answer> answers_for(const Task& task, double scale,
                                const std::vector<std::string>& names, const Tokenizer& tokenizer,
                                const TaskOptions& o) {
  const int64_t end = end_token(tokenizer);
  if (end < 0)
    throw UsageError("--text-to-text needs a tokenizer with an end token, and this has none");
  std::vector<Answer> answers = words_of(task, scale, names);
  std::map<std::vector<int64_t>, const Answer*> seen;
  for (Answer& a : answers) {
    // As it is behind any question.
    a.tokens =
        labels_of(in_words("", question(task.name, {"", "", "x", ""}), a.word, tokenizer, o));
    if (a.tokens.empty() || a.tokens.back() != end)
      throw UsageError("the label '{}' does not fit into --max-length {}", a.word, o.max_length);
    const auto [other, fresh] = seen.try_emplace(a.tokens, &a);
    if (fresh) continue;
    throw UsageError(
        "the labels '{}' and '{}' are the same tokens; a model that says one cannot be understood",
        other->second->word, a.word);
  }
  return answers;
}

Example asked(const Task& task, const TaskRow& row, const Example& x, const Tokenizer& tokenizer,
              const TaskOptions& o) {
  Example said = in_words(x.id, question(task.name, row), answer_to(task, x).word, tokenizer, o);
  said.label = x.label;
  said.score = x.score;
  return said;
}

std::vector<int64_t> question_of(const Example& row, bool two_stacks) {
  if (two_stacks) return row.ids;
  const auto first = std::ranges::find_if(row.next, [](int64_t id) { return id != kNoLabel; });
  return {row.ids.begin(), row.ids.begin() + (first - row.next.begin()) + 1};
}

Predictions meaning_of(const Task& task, const std::vector<std::vector<int64_t>>& said) {
  std::map<std::vector<int64_t>, const Answer*> known;
  for (const Answer& a : task.answers) known[a.tokens] = &a;
  Predictions p;
  for (const std::vector<int64_t>& tokens : said) {
    const auto it = known.find(tokens);
    p.classes.push_back(it == known.end() ? -1 : it->second->label);
    p.scores.push_back(it == known.end() ? -1 : it->second->score);
  }
  return p;
}

}  // namespace graft
