// Rows of text files: JSONL (one object a line), CSV (RFC 4180) and TSV, told apart by their names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace graft {

struct Table {
  struct Row {
    int64_t line;  // where it begins, from 1
    std::vector<std::string> fields;
  };
  std::string path;
  std::vector<std::string> columns;
  std::vector<Row> rows;

  // The column of that name, or where the name is empty the first of `usual` that exists; -1 if
  // none does. Throws FileError listing the columns when a named one is missing.
  int column(const std::string& name, const std::vector<std::string>& usual) const;
};

// Throws FileError "PATH:LINE: ..." on what cannot be read, UsageError for another kind of file.
Table read_table(const std::string& path);
// The same for text in memory; `path` tells the kind and names it in errors.
Table parse_table(std::string_view text, const std::string& path);

}  // namespace graft
