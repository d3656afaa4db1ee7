#include "train/table_file.h"

#include <algorithm>

#include "core/atomic_file.h"
#include "core/json.h"

namespace graft {
namespace {

// Cuts records at line ends outside of quotes and fields at `separator`. Without quoting (TSV) a
// quote is an ordinary character.
class Records {
 public:
  Records(std::string_view text, const std::string& path, char separator, bool quoting)
      : text_(text), path_(path), separator_(separator), quoting_(quoting) {}

  bool next(Table::Row& row) {
    while (at_ < text_.size() && blank_line()) {
    }
    if (at_ >= text_.size()) return false;
    row = {line_, {}};
    do {
      row.fields.push_back(quoting_ && peek() == '"' ? quoted() : plain());
    } while (take(separator_));
    if (take('\r') && peek() != '\n' && at_ < text_.size())
      fail("a carriage return inside a field");
    if (take('\n')) ++line_;
    return true;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool blank_line() {
    size_t end = at_;
    if (end < text_.size() && text_[end] == '\r') ++end;
    if (end < text_.size() && text_[end] != '\n') return false;
    at_ = std::min(end + 1, text_.size());
    ++line_;
    return true;
  }

  std::string plain() {
    const size_t start = at_;
    while (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n') ++at_;
    size_t end = at_;
    if (end > start && text_[end - 1] == '\r' && (at_ == text_.size() || text_[at_] == '\n')) --end;
    return std::string(text_.substr(start, end - start));
  }

  std::string quoted() {
    const int64_t opened = line_;
    ++at_;
    std::string field;
    for (;;) {
      if (at_ >= text_.size()) {
        throw FileError("{}:{}: the quote that opens here is never closed", path_, opened);
      }
      const char c = text_[at_++];
      if (c == '"' && !take('"')) break;
      if (c == '\n') ++line_;
      field += c;
    }
    const char after = peek();
    if (at_ < text_.size() && after != separator_ && after != '\n' && after != '\r') {
      fail("text after a closing quote; quotes inside a quoted field are doubled");
    }
    return field;
  }

  [[noreturn]] void fail(const char* what) const {
    throw FileError("{}:{}: {}", path_, line_, what);
  }

  std::string_view text_;
  const std::string& path_;
  char separator_;
  bool quoting_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

void read_separated(std::string_view text, Table& table, char separator, bool quoting) {
  Records records(text, table.path, separator, quoting);
  Table::Row row;
  if (!records.next(row)) throw FileError("{}: there is no header line", table.path);
  table.columns = row.fields;
  while (records.next(row)) {
    if (row.fields.size() != table.columns.size()) {
      throw FileError("{}:{}: {} columns instead of the {} of the header ({})", table.path,
                      row.line, row.fields.size(), table.columns.size(),
                      fmt::join(table.columns, ", "));
    }
    table.rows.push_back(row);
  }
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void read_jsonl(std::string_view text, Table& table) {
  int64_t line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view one = text.substr(at, end - at);
    at = end + 1;
    ++line;
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", table.path, line);
    const Json object = parse_json(one, where);
    if (!object.is_object()) throw FileError("{}: expected one JSON object a line", where);
    if (table.columns.empty()) {
      for (const auto& [key, value] : object.items()) table.columns.push_back(key);
      if (table.columns.empty()) throw FileError("{}: the first row has no fields", where);
    }
    Table::Row row{line, {}};
    for (const std::string& column : table.columns) {
      const auto it = object.find(column);
      if (it == object.end()) {
        throw FileError("{}: the field '{}' of the first row is missing here", where, column);
      }
      row.fields.push_back(it->is_null() ? std::string() : text_of(*it));
    }
    table.rows.push_back(std::move(row));
  }
}

}  // namespace

int Table::column(const std::string& name, const std::vector<std::string>& usual) const {
  for (const std::string& wanted : name.empty() ? usual : std::vector{name}) {
    const auto it = std::ranges::find(columns, wanted);
    if (it != columns.end()) return static_cast<int>(it - columns.begin());
  }
  if (!name.empty()) {
    throw FileError("{}: there is no column '{}'; it has: {}", path, name,
                    fmt::join(columns, ", "));
  }
  return -1;
}

Table parse_table(std::string_view text, const std::string& path) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // byte order mark
  Table table{path, {}, {}};
  if (path.ends_with(".csv")) {
    read_separated(text, table, ',', true);
  } else if (path.ends_with(".tsv")) {
    read_separated(text, table, '\t', false);
  } else if (path.ends_with(".jsonl")) {
    read_jsonl(text, table);
  } else {
    throw UsageError("'{}': the file's name should end in .jsonl, .csv or .tsv", path);
  }
  if (table.rows.empty()) throw FileError("{}: there are no rows", path);
  return table;
}

Table read_table(const std::string& path) { return parse_table(read_file(path), path); }

}  // namespace graft
