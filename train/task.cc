#include "train/task.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "core/atomic_file.h"
#include "core/error.h"

namespace graft {
namespace {

std::vector<TaskRow> read_tsv(const std::string& path) {
  const std::string content = read_file(path);
  std::vector<TaskRow> rows;
  int line_number = 0;
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min(content.find('\n', at), content.size());
    std::string_view line(content.data() + at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    at = end + 1;
    ++line_number;
    std::vector<std::string> fields{""};
    for (char c : line) {
      if (c == '\t') fields.emplace_back();
      else fields.back() += c;
    }
    if (fields.size() != 4) {
      throw FileError("{}:{}: {} columns instead of the four id, label, text_a, text_b", path, line_number, fields.size());
    }
    if (line_number == 1) {
      if (fields != std::vector<std::string>{"id", "label", "text_a", "text_b"}) {
        throw FileError("{}:1: the header should be id, label, text_a, text_b (tab-separated)", path);
      }
      continue;
    }
    rows.push_back({fields[0], fields[1], fields[2], fields[3]});
  }
  if (rows.empty()) throw FileError("{}: there are no rows", path);
  return rows;
}

double number(const std::string& s, const std::string& where) {
  double v = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (error != std::errc() || end != s.data() + s.size()) throw FileError("{}: the label '{}' is not a number", where, s);
  return v;
}

std::vector<Example> encode(const std::vector<TaskRow>& rows, const Tokenizer& tokenizer, const Task& task, int64_t max_length) {
  std::vector<Example> out;
  for (const TaskRow& r : rows) {
    Encoding e = r.text_b.empty() ? tokenizer.encode(r.text_a, true, max_length) : tokenizer.encode_pair(r.text_a, r.text_b, max_length);
    Example x{r.id, std::move(e.ids), std::move(e.type_ids)};
    const std::string where = fmt::format("task {}, row '{}'", task.name, r.id);
    x.score = number(r.label, where);
    if (task.classes > 0) {
      x.label = static_cast<int64_t>(x.score);
      if (static_cast<double>(x.label) != x.score || x.label < 0 || x.label >= task.classes) {
        throw FileError("{}: the label '{}' is not one of 0 to {}", where, r.label, task.classes - 1);
      }
    }
    x.target = x.score / 5;
    out.push_back(std::move(x));
  }
  return out;
}

}  // namespace

Task load_task(const std::string& spec, const Tokenizer& tokenizer, const TaskOptions& options) {
  WordnetTask rows;
  if (spec.starts_with("wordnet:")) {
    rows = build_wordnet_task(spec.substr(8), options.wordnet_folder);
  } else if (spec.ends_with(".train.tsv")) {
    const std::string stem = spec.substr(0, spec.size() - 10);
    rows = {stem.substr(stem.rfind('/') + 1), read_tsv(spec), read_tsv(stem + ".dev.tsv"), read_tsv(stem + ".test.tsv")};
  } else {
    throw UsageError("the task '{}' is not known; give wordnet:NAME (supersense, nli, gloss, sim) or a file NAME.train.tsv", spec);
  }
  Task task;
  task.name = rows.name;
  const bool regression = std::ranges::any_of(rows.train, [](const TaskRow& r) { return r.label.find('.') != std::string::npos; });
  if (!regression) {
    for (const TaskRow& r : rows.train) task.classes = std::max(task.classes, static_cast<int64_t>(number(r.label, r.id)) + 1);
  }
  task.metric = regression ? "spearman" : "accuracy";
  if (options.train_size > 0 && rows.train.size() > static_cast<size_t>(options.train_size)) {
    rows.train.resize(static_cast<size_t>(options.train_size));
  }
  task.train = encode(rows.train, tokenizer, task, options.max_length);
  task.dev = encode(rows.dev, tokenizer, task, options.max_length);
  task.test = encode(rows.test, tokenizer, task, options.max_length);
  return task;
}

std::vector<std::vector<size_t>> epoch_batches(const std::vector<Example>& rows, size_t batch, int64_t seed, int64_t epoch) {
  constexpr size_t kChunk = 512;
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < rows.size(); ++i) order.emplace_back(task_hash(fmt::format("order:{}:{}:{}", seed, epoch, rows[i].id)), i);
  std::ranges::sort(order, [&](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : rows[a.second].id < rows[b.second].id;
  });
  std::vector<std::vector<size_t>> batches;
  for (size_t c = 0; c * kChunk < order.size(); ++c) {
    std::vector<size_t> chunk;
    for (size_t i = c * kChunk; i < std::min(order.size(), (c + 1) * kChunk); ++i) chunk.push_back(order[i].second);
    std::ranges::stable_sort(chunk, {}, [&](size_t i) { return rows[i].ids.size(); });
    std::vector<std::pair<uint64_t, size_t>> turns;
    for (size_t i = 0; i * batch < chunk.size(); ++i) turns.emplace_back(task_hash(fmt::format("batch:{}:{}:{}:{}", seed, epoch, c, i)), i);
    std::ranges::sort(turns);
    for (const auto& [hash, i] : turns) {
      batches.emplace_back(chunk.begin() + static_cast<std::ptrdiff_t>(i * batch),
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
    batches.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(i), order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), i + batch)));
  }
  return batches;
}

}  // namespace graft
