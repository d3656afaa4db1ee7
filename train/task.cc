#include "train/task.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "core/error.h"
#include "train/language_task.h"
#include "train/metrics.h"
#include "train/table_file.h"
#include "train/text_to_text.h"
#include "train/wordnet_words.h"

namespace graft {
namespace {

// Rows with the place that errors name.
struct Rows {
  std::vector<TaskRow> rows;
  std::vector<std::string> where;
};

struct Parts {
  Rows train, dev, test, also;
};

Rows described(std::span<const TaskRow> rows, const std::string& task) {
  Rows r;
  for (const TaskRow& row : rows) {
    r.rows.push_back(row);
    r.where.push_back(fmt::format("task {}, row '{}'", task, row.id));
  }
  return r;
}

Rows labelled_rows(const Table& table, const TaskOptions& options) {
  const std::string& path = table.path;
  const int text = table.column(options.text_column, {"text", "sentence", "text_a"});
  const int pair = table.column(options.text_pair_column, {"text_pair", "text_b"});
  const int label = table.column(options.label_column, {"label"});
  const int id = table.column("", {"id"});
  if (text < 0 || label < 0) {
    throw FileError("{}: no column holds the {}; name it with {}. The columns are: {}", path,
                    text < 0 ? "text" : "label", text < 0 ? "--text-column" : "--label-column",
                    fmt::join(table.columns, ", "));
  }
  Rows rows;
  for (const Table::Row& row : table.rows) {
    auto field = [&](int column) {
      return column < 0 ? std::string() : row.fields[static_cast<size_t>(column)];
    };
    rows.where.push_back(fmt::format("{}:{}", path, row.line));
    if (field(text).empty()) throw FileError("{}: the text is empty", rows.where.back());
    rows.rows.push_back(
        {id < 0 ? fmt::format("{}", row.line) : field(id), field(label), field(text), field(pair)});
  }
  return rows;
}

Parts split(const Rows& all) {
  Parts parts;
  for (size_t i = 0; i < all.rows.size(); ++i) {
    const TaskRow& row = all.rows[i];
    const TaskPart named = part_of(row.text_a + "\t" + row.text_b);
    Rows& part = named == TaskPart::test  ? parts.test
                 : named == TaskPart::dev ? parts.dev
                                          : parts.train;
    part.rows.push_back(row);
    part.where.push_back(all.where[i]);
  }
  return parts;
}

std::optional<double> number(const std::string& s) {
  double v = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  const bool all = error == std::errc() && end == s.data() + s.size() && !s.empty();
  if (!all || !std::isfinite(v)) return std::nullopt;
  return v;
}

// What the labels of the training rows are.
void set_kind(Task& task, const Rows& train, const TaskOptions& options) {
  bool numbers = true, whole = true;
  double most = 0;
  std::set<std::string> names;
  for (size_t i = 0; i < train.rows.size(); ++i) {
    const std::string& label = train.rows[i].label;
    if (label.empty()) throw FileError("{}: the label is empty", train.where[i]);
    const auto v = number(label);
    numbers = numbers && v;
    whole = whole && v && *v >= 0 && *v == std::trunc(*v) && label.find('.') == std::string::npos;
    most = std::max(most, v.value_or(0));
    names.insert(label);
    if (options.regression && !v) {
      throw FileError("{}: the label '{}' is not a number", train.where[i], label);
    }
  }
  if (options.regression || (numbers && !whole)) {
    task.kind = TaskKind::regression;
    return;
  }
  constexpr double kMostClasses = 10000;
  if (whole && most < kMostClasses) {
    task.classes = options.classes > 0 ? options.classes : static_cast<int64_t>(most) + 1;
  } else {
    task.labels.assign(names.begin(), names.end());
    task.classes = static_cast<int64_t>(names.size());
  }
  if (task.classes < 2) {
    throw FileError("{}: all rows have the label '{}'; there is nothing to tell apart",
                    train.where[0], train.rows[0].label);
  }
}

void set_label(Example& x, const Task& task, const std::string& label, const std::string& where) {
  if (!task.labels.empty()) {
    const auto it = std::ranges::lower_bound(task.labels, label);
    if (it == task.labels.end() || *it != label) {
      throw FileError("{}: the label '{}' does not occur in the training rows; those have: {}",
                      where, label, fmt::join(task.labels, ", "));
    }
    x.label = it - task.labels.begin();
    return;
  }
  const auto v = number(label);
  if (!v) throw FileError("{}: the label '{}' is not a number", where, label);
  x.score = *v;
  if (task.kind == TaskKind::regression) return;
  if (x.score != std::trunc(x.score) || x.score < 0 ||
      x.score >= static_cast<double>(task.classes)) {
    throw FileError(
        "{}: the label '{}' is not one of 0 to {}, those of the training rows; --classes says "
        "how many there are",
        where, label, task.classes - 1);
  }
  x.label = static_cast<int64_t>(x.score);
}

std::vector<Example> encode(const Rows& rows, const Tokenizer& tokenizer, const Task& task,
                            const TaskOptions& options, double scale) {
  std::vector<Example> out;
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    const TaskRow& r = rows.rows[i];
    Example& x = out.emplace_back();
    x.id = r.id;
    set_label(x, task, r.label, rows.where[i]);
    x.target = x.score / scale;
    if (options.text_to_text) {
      x = asked(task, r, x, tokenizer, options);
      continue;
    }
    Encoding e = r.text_b.empty() ? tokenizer.encode(r.text_a, true, options.max_length)
                                  : tokenizer.encode_pair(r.text_a, r.text_b, options.max_length);
    x.ids = std::move(e.ids);
    x.types = std::move(e.type_ids);
  }
  return out;
}

// Numbers to be met are trained as fractions of the largest one.
double largest_score(const Task& task, const Rows& train) {
  double most = 0;
  if (task.kind != TaskKind::regression) return 1;
  for (const TaskRow& row : train.rows)
    most = std::max(most, std::fabs(number(row.label).value_or(0)));
  return most > 0 ? most : 1;
}

std::vector<std::string> metrics_for(TaskKind kind) {
  switch (kind) {
    case TaskKind::classification:
      return {"accuracy", "macro_f1", "matthews"};
    case TaskKind::regression:
      return {"spearman", "pearson"};
    case TaskKind::language:
      return {"perplexity", "bits_per_byte"};
  }
  return {};
}

std::string stem(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  return file.substr(0, file.find('.'));
}

// What is known of a task besides its rows.
struct Known {
  double scale = 0;                  // of scores; 0: the largest in training
  std::vector<std::string> classes;  // their names, where rows number them
};

Task build(std::string name, Parts parts, const Tokenizer& tokenizer, const TaskOptions& options,
           const Known& known = {}) {
  Task task;
  task.name = std::move(name);
  if (parts.train.rows.empty()) throw FileError("task {}: there are no training rows", task.name);
  set_kind(task, parts.train, options);
  set_metric(task, options.metric);
  const double scale = known.scale > 0 ? known.scale : largest_score(task, parts.train);
  if (options.text_to_text) {
    const auto& names = known.classes.empty() ? task.labels : known.classes;
    task.answers = answers_for(task, scale, names, tokenizer, options);
  }
  const auto size = static_cast<size_t>(options.train_size);
  if (size > 0 && parts.train.rows.size() > size) parts.train.rows.resize(size);
  task.train = encode(parts.train, tokenizer, task, options, scale);
  task.dev = encode(parts.dev, tokenizer, task, options, scale);
  task.test = encode(parts.test, tokenizer, task, options, scale);
  task.also = encode(parts.also, tokenizer, task, options, scale);
  if (!options.also_test.empty()) task.also_name = stem(options.also_test);
  return task;
}

Task build_language(std::string name, const Table* prompts, const Tokenizer& tokenizer,
                    const TaskOptions& options) {
  Task task;
  task.kind = TaskKind::language;
  task.name = std::move(name);
  set_metric(task, options.metric);
  if (prompts != nullptr) {
    load_prompts(task, *prompts, tokenizer, options);
  } else {
    load_texts(task, tokenizer, options);
  }
  const auto size = static_cast<size_t>(options.train_size);
  if (size > 0 && task.train.size() > size) task.train.resize(size);
  if (!options.also_test.empty()) {
    task.also_name = stem(options.also_test);
    task.also = language_rows(options.also_test, tokenizer, options);
  }
  return task;
}

// What is neither a conversation nor a prompt is trained on as it stands.
void refuse_chat_template(const std::string& spec, const TaskOptions& options) {
  if (options.chat_template.empty()) return;
  throw UsageError(
      "--chat-template is for conversations (a column 'messages') and for prompts with "
      "completions; "
      "the rows of {} are neither",
      spec);
}

}  // namespace

void set_metric(Task& task, const std::string& wanted) {
  const std::vector<std::string> fit = metrics_for(task.kind);
  task.metric = wanted.empty() ? fit[0] : wanted;
  if (std::ranges::find(fit, task.metric) == fit.end()) {
    throw UsageError("the metric '{}' does not fit the task {}; these do: {}", wanted, task.name,
                     fmt::join(fit, ", "));
  }
}

Task make_task(std::string name, std::span<const TaskRow> train, std::span<const TaskRow> dev,
               std::span<const TaskRow> test, const Tokenizer& tokenizer,
               const TaskOptions& options) {
  Parts parts{described(train, name), described(dev, name), described(test, name), {}};
  return build(std::move(name), std::move(parts), tokenizer, options);
}

TaskPart part_of(const std::string& text) {
  const uint64_t tenth = task_hash("part:" + text) % 10;
  return tenth == 0 ? TaskPart::test : tenth == 1 ? TaskPart::dev : TaskPart::train;
}

Task load_task(const std::string& spec, const Tokenizer& tokenizer, const TaskOptions& options) {
  if (spec == "lm") {
    refuse_chat_template(spec, options);
    const std::string& named = options.train.empty() ? options.test : options.train[0];
    return build_language(stem(named), nullptr, tokenizer, options);
  }
  if (!options.train.empty()) {
    throw UsageError("--train names the text of the task lm; the rows of '{}' are its own", spec);
  }
  if (spec.starts_with("wordnet:")) {
    refuse_chat_template(spec, options);
    if (!options.also_test.empty()) {
      throw UsageError("--also-test names a file like the task's own; {} comes from none", spec);
    }
    const WordnetTask task = build_wordnet_task(spec.substr(8), options.wordnet_folder);
    Parts parts{described(task.train, task.name),
                described(task.dev, task.name),
                described(task.test, task.name),
                {}};
    return build(task.name, std::move(parts), tokenizer, options,
                 {kWordnetScale, wordnet_class_names(task.name)});
  }
  if (!spec.ends_with(".jsonl") && !spec.ends_with(".csv") && !spec.ends_with(".tsv")) {
    throw UsageError(
        "the task '{}' is not known; give wordnet:NAME ({}), lm with --train FILE.txt, or a file "
        "that ends in .jsonl, .csv or .tsv",
        spec, fmt::join(wordnet_task_names(), ", "));
  }
  const Table table = read_table(spec);
  if (has_prompts(table, options)) return build_language(stem(spec), &table, tokenizer, options);
  refuse_chat_template(spec, options);
  Rows rows = labelled_rows(table, options);
  std::string dev = options.dev, test = options.test;
  if (spec.ends_with(".train.tsv") && dev.empty() && test.empty()) {
    const std::string task = spec.substr(0, spec.size() - 10);
    dev = task + ".dev.tsv";
    test = task + ".test.tsv";
  }
  Parts parts;
  if (dev.empty() && test.empty()) {
    parts = split(rows);
  } else {
    parts.train = std::move(rows);
    if (!dev.empty()) parts.dev = labelled_rows(read_table(dev), options);
    if (!test.empty()) parts.test = labelled_rows(read_table(test), options);
  }
  if (!options.also_test.empty())
    parts.also = labelled_rows(read_table(options.also_test), options);
  return build(stem(spec), std::move(parts), tokenizer, options);
}

std::map<std::string, double> metrics_of(const Task& task, std::span<const Example> rows,
                                         const Predictions& predicted) {
  if (task.kind == TaskKind::language) return language_metrics(rows, predicted.scores);
  if (task.kind == TaskKind::regression) {
    std::vector<double> wanted;
    for (const Example& x : rows) wanted.push_back(x.score);
    return {{"pearson", pearson(predicted.scores, wanted)},
            {"spearman", spearman(predicted.scores, wanted)}};
  }
  std::vector<int64_t> wanted;
  for (const Example& x : rows) wanted.push_back(x.label);
  return {{"accuracy", accuracy(predicted.classes, wanted)},
          {"macro_f1", macro_f1(predicted.classes, wanted, task.classes)},
          {"matthews", matthews(predicted.classes, wanted, task.classes)}};
}

std::vector<std::vector<size_t>> epoch_batches(const std::vector<Example>& rows, size_t batch,
                                               int64_t seed, int64_t epoch) {
  constexpr size_t kChunk = 512;
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < rows.size(); ++i)
    order.emplace_back(task_hash(fmt::format("order:{}:{}:{}", seed, epoch, rows[i].id)), i);
  std::ranges::sort(order, [&](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : rows[a.second].id < rows[b.second].id;
  });
  std::vector<std::vector<size_t>> batches;
  for (size_t c = 0; c * kChunk < order.size(); ++c) {
    std::vector<size_t> chunk;
    for (size_t i = c * kChunk; i < std::min(order.size(), (c + 1) * kChunk); ++i)
      chunk.push_back(order[i].second);
    std::ranges::stable_sort(chunk, {}, [&](size_t i) { return rows[i].ids.size(); });
    std::vector<std::pair<uint64_t, size_t>> turns;
    for (size_t i = 0; i * batch < chunk.size(); ++i)
      turns.emplace_back(task_hash(fmt::format("batch:{}:{}:{}:{}", seed, epoch, c, i)), i);
    std::ranges::sort(turns);
    for (const auto& [hash, i] : turns) {
      batches.emplace_back(
          chunk.begin() + static_cast<std::ptrdiff_t>(i * batch),
          chunk.begin() + static_cast<std::ptrdiff_t>(std::min(chunk.size(), (i + 1) * batch)));
    }
  }
  return batches;
}

std::vector<std::vector<size_t>> sorted_batches(const std::vector<Example>& rows, size_t batch) {
  std::vector<size_t> order(rows.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, {}, [&](size_t i) { return rows[i].ids.size(); });
  std::vector<std::vector<size_t>> batches;
  for (size_t i = 0; i < order.size(); i += batch) {
    batches.emplace_back(
        order.begin() + static_cast<std::ptrdiff_t>(i),
        order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), i + batch)));
  }
  return batches;
}

}  // namespace graft
