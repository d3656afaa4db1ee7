// Tasks of language modelling: running text packed into rows, and prompts with completions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "train/table_file.h"
#include "train/task.h"

namespace graft {

// A text file without its byte order mark. Throws FileError where there is no text in it, or bytes
// that are not UTF-8.
std::string read_text_file(const std::string& path);

// The token that closes a text; -1: the tokenizer has none.
int64_t end_token(const Tokenizer& tokenizer);

struct TextTokens {
  std::vector<int64_t> ids;
  std::vector<int64_t> bytes;  // of the text that each of them stands for

  void add(int64_t id, int64_t length) {
    ids.push_back(id);
    bytes.push_back(length);
  }
};
// Texts one after another, each closed with an end token.
TextTokens joined(std::span<const std::string_view> texts, const Tokenizer& tokenizer);

// Texts one after another, each closed with an end token, cut into rows of `length` tokens: the
// label of a token is the one behind it, so that all tokens but the very first are predicted once,
// also over the end of a row. The last row may be shorter.
std::vector<Example> pack_rows(std::span<const std::string_view> texts, const Tokenizer& tokenizer,
                               int64_t length);

// One row that predicts the completion and the end token alone. The prompt has the tokens that it
// has without the completion. Where both are longer than max_length, the prompt loses its
// beginning, down to one token; then the completion loses its end.
Example prompted_row(const std::string& id, std::string_view prompt, std::string_view completion,
                     const Tokenizer& tokenizer, int64_t max_length);

// The same for a model with two stacks: its encoder reads the prompt, its decoder says the
// completion and the end token. Both lose their end where they are longer than max_length.
Example two_stack_row(const std::string& id, std::string_view prompt, std::string_view completion,
                      const Tokenizer& tokenizer, int64_t max_length);
// The one that options.two_stacks asks for.
Example answered_row(const std::string& id, std::string_view prompt, std::string_view completion,
                     const Tokenizer& tokenizer, const TaskOptions& options);

// A text in parts for training, development and test: contiguous blocks, a tenth of them each for
// the latter two, cut at line ends where there are some.
struct TextParts {
  std::vector<std::string_view> train, dev, test;
};
TextParts held_out(std::string_view text);

// The rows of a file: prompts and completions, or conversations, of a .jsonl, .csv or .tsv, running
// text of any other.
// Throws FileError with file and place.
std::vector<Example> language_rows(const std::string& path, const Tokenizer& tokenizer,
                                   const TaskOptions& options);
// Whether a table has prompts and completions, or conversations; by the usual names only where no
// column of a labelled text is named.
bool has_prompts(const Table& table, const TaskOptions& options);

// Training, development and test rows: of options.train, and of a table with prompts.
void load_texts(Task& task, const Tokenizer& tokenizer, const TaskOptions& options);
void load_prompts(Task& task, const Table& table, const Tokenizer& tokenizer,
                  const TaskOptions& options);

// exp of the mean negative log likelihood of the predicted tokens, and the same in bits per byte of
// their text. `nats`: of each row, summed over its tokens.
std::map<std::string, double> language_metrics(std::span<const Example> rows,
                                               std::span<const double> nats);

}  // namespace graft
