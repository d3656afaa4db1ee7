// The program as a user meets it: exit status, messages, JSON, a short training run whose adapter
// can be used.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/json.h"
#include "tests/support/minilm.h"

namespace graft::testing {
namespace {

struct Result {
  int status;
  std::string output;  // both streams
};

Result graft(const std::string& arguments, bool errors = true) {
  FILE* pipe = popen(
      (std::string(GRAFT_PROGRAM) + " " + arguments + (errors ? " 2>&1" : " 2>/dev/null")).c_str(),
      "r");
  std::string output;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  return {WEXITSTATUS(pclose(pipe)), output};
}

TEST(Cli, WrongUsageIsTwo) {
  const std::string model = " --model " + minilm_folder();
  EXPECT_EQ(graft("").status, 2);
  EXPECT_EQ(graft("tune").status, 2);
  const Result method = graft("plan --method lorra" + model);
  EXPECT_EQ(method.status, 2);
  EXPECT_NE(method.output.find("there is no method 'lorra'; known: full"), std::string::npos);
  const Result key = graft("plan --method lora --set rank=4" + model);
  EXPECT_EQ(key.status, 2);
  EXPECT_NE(key.output.find("no hyperparameter 'rank'"), std::string::npos);
  const Result target = graft("plan --method lora --set 'target_modules=[\"q_proj\"]'" + model);
  EXPECT_EQ(target.status, 2);
  EXPECT_NE(target.output.find("encoder.layer.0.attention.self.query"), std::string::npos);
}

TEST(Cli, DamagedFilesAreThree) {
  const Result none = graft("inspect /nonexistent");
  EXPECT_EQ(none.status, 3);
  const std::string folder =
      std::filesystem::temp_directory_path() / fmt::format("graft-cli-{}", ::getpid());
  make_folders(folder);
  write_file(folder + "/config.json", R"({"model_type": "bert", "hidden_size": 8})");
  const Result config = graft("plan --model " + folder);
  EXPECT_EQ(config.status, 3);
  EXPECT_NE(config.output.find("'num_hidden_layers' is missing"), std::string::npos);
  write_file(folder + "/t.train.tsv", "id\tlabel\ttext_a\ttext_b\n1\tred\tone\t\n");
  write_file(folder + "/t.dev.tsv", "id\tlabel\ttext_a\ttext_b\n1\t0\tone\t\n");
  write_file(folder + "/t.test.tsv", "id\tlabel\ttext_a\n");
  const Result rows = graft("tune --task " + folder + "/t.train.tsv --output " + folder +
                            "/o --model " + minilm_folder());
  EXPECT_EQ(rows.status, 3);
  EXPECT_NE(rows.output.find("t.test.tsv:1: 3 columns"), std::string::npos);
  std::filesystem::remove_all(folder);
}

// Two classes that a sentence encoder tells apart at once.
void write_task(const std::string& stem) {
  const char* things[2][8] = {
      {"a brown dog", "a small cat", "two wild horses", "an old elephant", "a grey wolf",
       "the young lion", "a tame rabbit", "a striped tiger"},
      {"fresh bread", "hot lentil soup", "a ripe apple", "salted butter", "a slice of cheese",
       "roasted rice", "sweet honey", "a bowl of noodles"}};
  const char* frames[] = {"{} was seen near the house", "she spoke of {}",
                          "there is {} in the picture", "they wanted {}"};
  std::string text = "id\tlabel\ttext_a\ttext_b\n";
  int id = 0;
  for (const char* frame : frames) {
    for (int label : {0, 1}) {
      for (const char* thing : things[label])
        text +=
            fmt::format("r{}\t{}\t{}\t\n", ++id, label, fmt::format(fmt::runtime(frame), thing));
    }
  }
  for (const char* part : {".train.tsv", ".dev.tsv", ".test.tsv"}) write_file(stem + part, text);
}

TEST(Cli, TuneThenUseTheAdapter) {
  const std::string folder = std::filesystem::temp_directory_path() /
                             fmt::format("graft-tune-{}", ::getpid()),
                    model = " --model " + minilm_folder();
  make_folders(folder);
  write_task(folder + "/things");
  const std::string task = " --task " + folder + "/things.train.tsv";
  const Result tuned = graft(
      "tune --json --steps 12 --batch 16 --method lora --output " + folder + task + model, false);
  ASSERT_EQ(tuned.status, 0) << tuned.output;
  const Json run = parse_json(tuned.output, "tune");
  EXPECT_EQ(run.at("trainable_parameters"), 73728);
  EXPECT_EQ(run.at("planned_peak_bytes"), run.at("peak_bytes"));
  EXPECT_GE(run.at("metrics").at("accuracy").get<double>(), 0.95);
  EXPECT_LT(run.at("losses").back().get<double>(), run.at("losses").front().get<double>());
  const Result eval = graft("eval --adapter " + folder + task + model, false);
  ASSERT_EQ(eval.status, 0) << eval.output;
  EXPECT_DOUBLE_EQ(parse_json(eval.output, "eval").at("metrics").at("accuracy").get<double>(),
                   run.at("metrics").at("accuracy").get<double>());
  const Result merged =
      graft("merge --adapter " + folder + " --output " + folder + "/merged" + model, false);
  ASSERT_EQ(merged.status, 0) << merged.output;
  EXPECT_LT(parse_json(merged.output, "merge").at("max_abs_difference").get<double>(), 2e-5);
  EXPECT_EQ(graft("inspect " + folder + "/merged", false).status, 0);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace graft::testing
