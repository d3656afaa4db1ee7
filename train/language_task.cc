#include "train/language_task.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "core/atomic_file.h"
#include "core/error.h"
#include "models/tokenizer/unicode.h"
#include "train/chat_task.h"
#include "train/span_corruption.h"

namespace graft {
namespace {

// What is cut out of a text for evaluation: long enough to be read with its context.
constexpr size_t kBlock = 16384;
constexpr size_t kParts = 10;

// Where each character begins, and the end.
std::vector<int64_t> character_starts(std::string_view text) {
  std::vector<int64_t> starts;
  for (size_t at = 0; at < text.size(); at += code_point(text, at).bytes)
    starts.push_back(static_cast<int64_t>(at));
  starts.push_back(static_cast<int64_t>(text.size()));
  return starts;
}

// Between two tokens may lie text that neither stands for (a space); it is counted with the second.
void append(TextTokens& out, const Encoding& e, std::string_view text) {
  const std::vector<int64_t> starts = character_starts(text);
  const auto last = static_cast<int64_t>(starts.size()) - 1;
  int64_t done = 0;
  for (size_t i = 0; i < e.ids.size(); ++i) {
    const int64_t end =
        e.special[i] != 0 ? done : starts[static_cast<size_t>(std::min(e.offsets[i].second, last))];
    out.add(e.ids[i], std::max<int64_t>(end - done, 0));
    done = std::max(done, end);
  }
}

void add_end(TextTokens& tokens, const Tokenizer& tokenizer) {
  const int64_t end = end_token(tokenizer);
  if (end >= 0 && (tokens.ids.empty() || tokens.ids.back() != end)) tokens.add(end, 0);
}

// The labels of tokens [begin, end) of a row are those behind them, from `first` on.
Example row_of(std::string id, const TextTokens& tokens, size_t begin, size_t end, size_t first) {
  Example x;
  x.id = std::move(id);
  x.ids.assign(tokens.ids.begin() + static_cast<std::ptrdiff_t>(begin),
               tokens.ids.begin() + static_cast<std::ptrdiff_t>(end));
  for (size_t i = begin; i < end; ++i) {
    const bool predicted = i + 1 < tokens.ids.size() && i + 1 >= first;
    x.next.push_back(predicted ? tokens.ids[i + 1] : kNoLabel);
    if (predicted) x.bytes += tokens.bytes[i + 1];
  }
  return x;
}

// The end of the block that begins at `begin`: behind the first line end that follows the wanted
// size, or a space, or any character.
size_t block_end(std::string_view text, size_t begin, size_t size) {
  if (text.size() - begin <= size) return text.size();
  const std::string_view window = text.substr(begin + size, size);
  for (const char* at : {"\n", " "}) {
    if (const size_t found = window.find(at); found != std::string_view::npos)
      return begin + size + found + 1;
  }
  size_t end = begin + size;
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  return end;
}

// A block that goes on where the last one ends is one piece with it.
void extend(std::vector<std::string_view>& pieces, std::string_view block) {
  if (!pieces.empty() && pieces.back().data() + pieces.back().size() == block.data()) {
    pieces.back() = {pieces.back().data(), pieces.back().size() + block.size()};
  } else {
    pieces.push_back(block);
  }
}

std::vector<Example> prompted_rows(const Table& table, const Tokenizer& tokenizer,
                                   const TaskOptions& o) {
  const int prompt = table.column(o.prompt_column, {"prompt"});
  const int completion = table.column(o.completion_column, {"completion"});
  const int id = table.column("", {"id"});
  if (prompt < 0 || completion < 0) {
    throw FileError("{}: no column holds the {}; name it with {}. The columns are: {}", table.path,
                    prompt < 0 ? "prompt" : "completion",
                    prompt < 0 ? "--prompt-column" : "--completion-column",
                    fmt::join(table.columns, ", "));
  }
  std::optional<ChatTemplate> chat;
  if (!o.chat_template.empty()) chat = chat_template_of(o);
  std::vector<Example> rows;
  for (const Table::Row& row : table.rows) {
    auto field = [&](int column) { return row.fields[static_cast<size_t>(column)]; };
    const std::string where = fmt::format("{}:{}", table.path, row.line);
    for (const int column : {prompt, completion}) {
      if (field(column).empty())
        throw FileError("{}: the {} is empty", where, table.columns[static_cast<size_t>(column)]);
    }
    const std::string name = id < 0 ? fmt::format("{}", row.line) : field(id);
    rows.push_back(chat
                       ? chat_row(name, {{"user", field(prompt)}, {"assistant", field(completion)}},
                                  *chat, tokenizer, o.max_length, where)
                       : answered_row(name, field(prompt), field(completion), tokenizer, o));
    if (predicted_tokens(rows.back()) == 0)
      throw FileError("{}: the completion has no tokens to predict", where);
  }
  return rows;
}

// What a model learns from running text: the next token; with two stacks, what was cut out.
std::vector<Example> text_rows(std::span<const std::string_view> texts, const Tokenizer& tokenizer,
                               const TaskOptions& o) {
  const auto rows = o.two_stacks ? corrupted_rows : pack_rows;
  return rows(texts, tokenizer, o.max_length);
}

std::vector<Example> table_rows(const Table& table, const Tokenizer& tokenizer,
                                const TaskOptions& o) {
  return conversation_column(table, o) >= 0 ? chat_rows(table, tokenizer, o)
                                            : prompted_rows(table, tokenizer, o);
}

// What a row of a table says, for telling which part it belongs to.
std::string row_text(const Table& table, const Table::Row& row, const TaskOptions& o) {
  const auto field = [&](int column) { return row.fields[static_cast<size_t>(column)]; };
  if (const int messages = conversation_column(table, o); messages >= 0) return field(messages);
  return field(table.column(o.prompt_column, {"prompt"})) + "\t" +
         field(table.column(o.completion_column, {"completion"}));
}

bool is_table(const std::string& path) {
  return path.ends_with(".jsonl") || path.ends_with(".csv") || path.ends_with(".tsv");
}

// Rows of all parts, where files are not given.
std::vector<Example>& part_for(Task& task, const std::string& text) {
  const TaskPart part = part_of(text);
  return part == TaskPart::test ? task.test : part == TaskPart::dev ? task.dev : task.train;
}

void load_named_parts(Task& task, const Tokenizer& tokenizer, const TaskOptions& o) {
  if (!o.dev.empty()) task.dev = language_rows(o.dev, tokenizer, o);
  if (!o.test.empty()) task.test = language_rows(o.test, tokenizer, o);
}

}  // namespace

int64_t predicted_tokens(const Example& row) {
  return std::ranges::count_if(row.next, [](int64_t label) { return label != kNoLabel; });
}

std::string read_text_file(const std::string& path) {
  std::string text = read_file(path);
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);  // byte order mark
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point(text, at);
    if (!c.valid) {
      throw FileError("{}: byte {} is not UTF-8; convert the file (iconv -f latin1 -t utf-8)", path,
                      at);
    }
    at += c.bytes;
  }
  if (text.find_first_not_of(" \t\r\n") == std::string::npos)
    throw FileError("{}: there is no text in it", path);
  return text;
}

int64_t end_token(const Tokenizer& tokenizer) {
  const SpecialTokens& special = tokenizer.settings().special;
  return special.eos >= 0 ? special.eos : special.sep;
}

TextTokens joined(std::span<const std::string_view> texts, const Tokenizer& tokenizer) {
  TextTokens all;
  for (const std::string_view text : texts) {
    append(all, tokenizer.encode(text), text);
    add_end(all, tokenizer);
  }
  return all;
}

std::vector<Example> pack_rows(std::span<const std::string_view> texts, const Tokenizer& tokenizer,
                               int64_t length) {
  const TextTokens all = joined(texts, tokenizer);
  std::vector<Example> rows;
  const auto step = static_cast<size_t>(length);
  for (size_t at = 0; at + 1 < all.ids.size(); at += step) {
    const size_t end = std::min(at + step, all.ids.size() - 1);
    rows.push_back(row_of(fmt::format("{}", rows.size()), all, at, end, 0));
  }
  return rows;
}

Example prompted_row(const std::string& id, std::string_view prompt, std::string_view completion,
                     const Tokenizer& tokenizer, int64_t max_length) {
  // The closing token of a pair scheme ([SEP]) stands behind the completion, not behind the prompt.
  Encoding p = tokenizer.encode(prompt);
  while (!p.ids.empty() && p.special.back() != 0 && p.ids.back() == end_token(tokenizer)) {
    p.ids.pop_back();
    p.special.pop_back();
    p.offsets.pop_back();
  }
  TextTokens tokens;
  append(tokens, p, prompt);
  size_t first = tokens.ids.size();

  // Tokens of the whole, unless the seam runs through one of them.
  const std::string both = std::string(prompt) + std::string(completion);
  Encoding whole = tokenizer.encode(both);
  const bool begins_alike =
      whole.ids.size() > first && std::equal(p.ids.begin(), p.ids.end(), whole.ids.begin());
  if (begins_alike) {
    tokens = {};
    append(tokens, whole, both);
  } else {
    append(tokens, tokenizer.encode(completion, false), completion);
  }
  add_end(tokens, tokenizer);

  // The last token is predicted, never read.
  const auto most = static_cast<size_t>(max_length);
  const size_t read = tokens.ids.size() - 1;
  if (read > most && first > 1) {
    const size_t gone = std::min(read - most, first - 1);
    // A token that every text begins with stays.
    const auto from = static_cast<std::ptrdiff_t>(p.special[0] != 0 ? 1 : 0);
    for (std::vector<int64_t>* x : {&tokens.ids, &tokens.bytes})
      x->erase(x->begin() + from, x->begin() + from + static_cast<std::ptrdiff_t>(gone));
    first -= gone;
  }
  return row_of(id, tokens, 0, std::min(tokens.ids.size() - 1, most), first);
}

Example two_stack_row(const std::string& id, std::string_view prompt, std::string_view completion,
                      const Tokenizer& tokenizer, int64_t max_length) {
  TextTokens read, said;
  append(read, tokenizer.encode(prompt, true, max_length), prompt);
  append(said, tokenizer.encode(completion), completion);
  add_end(said, tokenizer);
  const auto most = static_cast<size_t>(max_length);
  for (std::vector<int64_t>* x : {&said.ids, &said.bytes}) x->resize(std::min(x->size(), most));
  Example x;
  x.id = id;
  x.ids = std::move(read.ids);
  x.next = std::move(said.ids);
  x.bytes = std::accumulate(said.bytes.begin(), said.bytes.end(), int64_t{0});
  return x;
}

Example answered_row(const std::string& id, std::string_view prompt, std::string_view completion,
                     const Tokenizer& tokenizer, const TaskOptions& o) {
  const auto row = o.two_stacks ? two_stack_row : prompted_row;
  return row(id, prompt, completion, tokenizer, o.max_length);
}

TextParts held_out(std::string_view text) {
  // A block may grow to twice its size before it ends: twice as many leave enough of them.
  const size_t size = std::clamp<size_t>(text.size() / (2 * kParts), 1, kBlock);
  TextParts parts;
  size_t block = 0;
  for (size_t at = 0; at < text.size(); ++block) {
    const size_t end = block_end(text, at, size);
    const size_t turn = block % kParts;
    extend(turn == 3 ? parts.dev : turn == 8 ? parts.test : parts.train, text.substr(at, end - at));
    at = end;
  }
  return parts;
}

std::vector<Example> language_rows(const std::string& path, const Tokenizer& tokenizer,
                                   const TaskOptions& o) {
  if (is_table(path)) return table_rows(read_table(path), tokenizer, o);
  const std::string text = read_text_file(path);
  const std::string_view whole = text;
  auto rows = text_rows({&whole, 1}, tokenizer, o);
  if (rows.empty())
    throw FileError("{}: the text is a single token; there is nothing to predict", path);
  return rows;
}

bool has_prompts(const Table& table, const TaskOptions& o) {
  if (!o.prompt_column.empty() || !o.completion_column.empty() ||
      conversation_column(table, o) >= 0)
    return true;
  return o.text_column.empty() && o.label_column.empty() && table.column("", {"prompt"}) >= 0 &&
         table.column("", {"completion"}) >= 0;
}

void load_texts(Task& task, const Tokenizer& tokenizer, const TaskOptions& o) {
  if (o.train.empty() && o.test.empty()) {
    throw UsageError(
        "the task lm needs text: name files with --train FILE.txt, or one to evaluate with --test");
  }
  const bool cut = o.dev.empty() && o.test.empty();
  std::vector<std::string> texts;
  for (const std::string& path : o.train) texts.push_back(read_text_file(path));
  TextParts all;
  for (const std::string& text : texts) {
    TextParts own;
    if (cut) {
      own = held_out(text);
    } else {
      own.train.emplace_back(text);
    }
    for (auto part : {&TextParts::train, &TextParts::dev, &TextParts::test})
      (all.*part).insert((all.*part).end(), (own.*part).begin(), (own.*part).end());
  }
  task.train = text_rows(all.train, tokenizer, o);
  task.dev = text_rows(all.dev, tokenizer, o);
  task.test = text_rows(all.test, tokenizer, o);
  load_named_parts(task, tokenizer, o);
  if (!o.train.empty() && task.train.empty()) {
    throw FileError("{}: the text is a single token; there is nothing to predict", o.train[0]);
  }
}

void load_prompts(Task& task, const Table& table, const Tokenizer& tokenizer,
                  const TaskOptions& o) {
  std::vector<Example> rows = table_rows(table, tokenizer, o);
  if (!o.dev.empty() || !o.test.empty()) {
    task.train = std::move(rows);
    load_named_parts(task, tokenizer, o);
    return;
  }
  for (size_t i = 0; i < rows.size(); ++i)
    part_for(task, row_text(table, table.rows[i], o)).push_back(std::move(rows[i]));
  if (task.train.empty()) throw FileError("{}: there are no training rows", table.path);
}

std::map<std::string, double> language_metrics(std::span<const Example> rows,
                                               std::span<const double> nats) {
  double sum = 0, tokens = 0, bytes = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    sum += nats[i];
    tokens += static_cast<double>(predicted_tokens(rows[i]));
    bytes += static_cast<double>(rows[i].bytes);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  return {{"perplexity", tokens > 0 ? std::exp(sum / tokens) : nan},
          {"bits_per_byte", bytes > 0 ? sum / std::log(2.0) / bytes : nan}};
}

}  // namespace graft
