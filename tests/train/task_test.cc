// Files of users: what is read, what is refused and where the message points.
#include "train/task.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"
#include "train/table_file.h"

namespace graft::testing {
namespace {

using Fields = std::vector<std::vector<std::string>>;

Fields fields(const Table& table) {
  Fields all{table.columns};
  for (const Table::Row& row : table.rows) all.push_back(row.fields);
  return all;
}

struct Readable {
  const char* name;
  std::string path, text;
  Fields wanted;  // the header first
};

class Tables : public ::testing::TestWithParam<Readable> {};

TEST_P(Tables, AreRead) {
  EXPECT_EQ(fields(parse_table(GetParam().text, GetParam().path)), GetParam().wanted);
}

INSTANTIATE_TEST_SUITE_P(
    All, Tables,
    ::testing::Values(
        Readable{"Csv", "a.csv", "x,y\n1,two\n", {{"x", "y"}, {"1", "two"}}},
        Readable{"CsvQuotes",
                 "a.csv",
                 "x,y\r\n\"a, \"\"b\"\"\",\"line one\nline two\"\r\n",
                 {{"x", "y"}, {"a, \"b\"", "line one\nline two"}}},
        Readable{"CsvEmptyFields",
                 "a.csv",
                 "x,y,z\n,,\n\"\",b,",
                 {{"x", "y", "z"}, {"", "", ""}, {"", "b", ""}}},
        Readable{"ByteOrderMark", "a.csv", "\xEF\xBB\xBFx\n1\n", {{"x"}, {"1"}}},
        Readable{"BlankLines", "a.csv", "\nx\n\n1\n\r\n2", {{"x"}, {"1"}, {"2"}}},
        Readable{"TsvKeepsQuotes", "a.tsv", "x\ty\n\"a\t\"b\"\n", {{"x", "y"}, {"\"a", "\"b\""}}},
        Readable{"Jsonl",
                 "a.jsonl",
                 "{\"x\": \"\\u00e9\", \"y\": 1}\n\n{\"y\": null, \"x\": \"b\", \"z\": []}\n",
                 {{"x", "y"}, {"\u00e9", "1"}, {"b", ""}}}),
    [](const auto& row) { return std::string(row.param.name); });

struct Refused {
  const char* name;
  std::string path, text, message;
};

class BadTables : public ::testing::TestWithParam<Refused> {};

TEST_P(BadTables, SayWhere) {
  const std::string message =
      error_of<Error>([] { parse_table(GetParam().text, GetParam().path); });
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    All, BadTables,
    ::testing::Values(
        Refused{"Kind", "a.txt", "x\n1\n", "should end in .jsonl, .csv or .tsv"},
        Refused{"Empty", "a.csv", "", "a.csv: there is no header line"},
        Refused{"NoRows", "a.csv", "x,y\n", "a.csv: there are no rows"},
        Refused{"Columns", "a.csv", "x,y\n1,2\n\n3\n", "a.csv:4: 1 columns instead of the 2"},
        Refused{"OpenQuote", "a.csv", "x\n1\n\"a\nb\nc", "a.csv:3: the quote that opens here"},
        Refused{"AfterQuote", "a.csv", "x\n\"a\"b\n", "a.csv:2: text after a closing quote"},
        Refused{"NotJson", "a.jsonl", "{\"x\": 1}\n{\"x\": }\n", "a.jsonl:2"},
        Refused{"NotAnObject", "a.jsonl", "[1]\n", "a.jsonl:1: expected one JSON object a line"},
        Refused{"Field", "a.jsonl", "{\"x\": 1}\n{\"y\": 1}\n", "a.jsonl:2: the field 'x'"}),
    [](const auto& row) { return std::string(row.param.name); });

const Tokenizer& tokenizer() {
  static const auto t = load_tokenizer(golden_dir() + "/tokenizers/bert_wordpiece");
  return *t;
}

std::vector<TaskRow> labelled(const std::vector<std::string>& labels) {
  std::vector<TaskRow> rows;
  for (const std::string& l : labels)
    rows.push_back({std::to_string(rows.size()), l, "a text", ""});
  return rows;
}

TEST(Tasks, LabelsTellTheKind) {
  auto task = [&](const std::vector<std::string>& labels, const TaskOptions& options = {}) {
    const auto rows = labelled(labels);
    return make_task("t", rows, rows, rows, tokenizer(), options);
  };
  const Task numbers = task({"0", "2", "1"});
  EXPECT_EQ(numbers.classes, 3);
  EXPECT_EQ(numbers.train[1].label, 2);
  const Task names = task({"red", "blue", "red"});
  EXPECT_EQ(names.labels, (std::vector<std::string>{"blue", "red"}));
  EXPECT_EQ(names.train[0].label, 1);
  const Task scores = task({"0.5", "4", "2"});
  EXPECT_EQ(scores.classes, 0);
  EXPECT_EQ(scores.metric, "spearman");
  EXPECT_DOUBLE_EQ(scores.train[0].target, 0.125);  // a fraction of the largest
  EXPECT_EQ(task({"0", "1"}, {.classes = 4}).classes, 4);
  const Task told = task({"0", "2", "1"}, {.regression = true, .metric = "pearson"});
  EXPECT_EQ(told.classes, 0);
  EXPECT_EQ(told.metric, "pearson");
}

TEST(Tasks, UnknownLabelsAreRefused) {
  const auto train = labelled({"0", "1"}), names = labelled({"red", "blue"});
  auto message = [&](const auto& trained, const auto& tested, const TaskOptions& options = {}) {
    return error_of<Error>([&] { make_task("t", trained, trained, tested, tokenizer(), options); });
  };
  EXPECT_NE(message(train, labelled({"7"})).find("'7' is not one of 0 to 1"), std::string::npos);
  EXPECT_NE(message(train, names).find("'red' is not a number"), std::string::npos);
  EXPECT_NE(message(names, labelled({"green"})).find("those have: blue, red"), std::string::npos);
  EXPECT_NE(message(names, names, {.regression = true}).find("row '0': the label 'red'"),
            std::string::npos);
  EXPECT_NE(message(labelled({"1", ""}), train).find("the label is empty"), std::string::npos);
}

}  // namespace
}  // namespace graft::testing
