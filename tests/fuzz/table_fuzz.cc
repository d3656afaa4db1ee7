// A file of rows and the task made of it. The first byte chooses the kind of file.
#include <cmath>

#include "tests/fuzz/fuzz.h"
#include "train/table_file.h"
#include "train/task.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  static const auto tokenizer =
      parse_vocabulary("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\n##c\n", "vocabulary");
  if (size == 0) return 0;
  return fuzz::read_or_refuse([&] {
    const char* const kinds[] = {"f.csv", "f.tsv", "f.jsonl"};
    const Table table = parse_table(fuzz::text_of(data + 1, size - 1), kinds[data[0] % 3]);
    std::vector<TaskRow> rows;
    for (const Table::Row& row : table.rows) {
      fuzz::expect(row.fields.size() == table.columns.size(), "a row has all columns");
      rows.push_back({std::to_string(row.line), row.fields.front(), row.fields.back(), ""});
    }
    const Task task = make_task("rows", rows, rows, {}, *tokenizer, {.max_length = 8});
    for (const Example& x : task.train) {
      const bool known = task.kind == TaskKind::regression ? std::abs(x.target) <= 1
                                                           : x.label >= 0 && x.label < task.classes;
      fuzz::expect(known, "labels are of the classes, targets fractions of the largest");
    }
    epoch_batches(task.train, 4, 0, 0);
  });
}
