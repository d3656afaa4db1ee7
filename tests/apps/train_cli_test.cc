// Training from the command line: a short run whose adapter can be used, user files, interruption.
#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "core/safetensors.h"
#include "tests/apps/program.h"

namespace graft::testing {
namespace {

// Two kinds of things that a sentence encoder tells apart at once.
std::vector<std::pair<std::string, std::string>> things() {
  const std::vector<std::pair<std::string, std::vector<const char*>>> kinds = {
      {"animal",
       {"a brown dog", "a small cat", "two wild horses", "an old elephant", "a grey wolf",
        "the young lion", "a tame rabbit", "a striped tiger"}},
      {"food",
       {"fresh bread", "hot lentil soup", "a ripe apple", "salted butter", "a slice of cheese",
        "roasted rice", "sweet honey", "a bowl of noodles"}}};
  const char* frames[] = {"{} was seen near the house", "she spoke of {}",
                          "there is {} in the picture", "they wanted {}"};
  std::vector<std::pair<std::string, std::string>> rows;
  for (const char* frame : frames) {
    for (const auto& [kind, names] : kinds) {
      for (const char* name : names)
        rows.emplace_back(fmt::format(fmt::runtime(frame), name), kind);
    }
  }
  return rows;
}

void write_tsv(const std::string& stem) {
  std::string text = "id\tlabel\ttext_a\ttext_b\n";
  int id = 0;
  for (const auto& [row, kind] : things()) {
    text += fmt::format("r{}\t{}\t{}\t\n", ++id, kind == "food" ? 1 : 0, row);
  }
  for (const char* part : {".train.tsv", ".dev.tsv", ".test.tsv"}) write_file(stem + part, text);
}

TEST(TrainCli, TuneThenUseTheAdapter) {
  const TemporaryFolder dir;
  write_tsv(dir / "things");
  const std::string task = " --task " + (dir / "things.train.tsv") + minilm_option();
  const Result tuned =
      graft("tune --json --steps 12 --batch 16 --output " + (dir / "out") + task, Streams::out);
  ASSERT_EQ(tuned.status, 0) << tuned.output;
  const Json run = tuned.json();
  EXPECT_EQ(run.at("trainable_parameters"), 73728);
  EXPECT_EQ(run.at("planned_peak_bytes"), run.at("peak_bytes"));
  const double accuracy = run.at("metrics").at("accuracy");
  EXPECT_GE(accuracy, 0.95);
  EXPECT_LT(run.at("losses").back().get<double>(), run.at("losses").front().get<double>());
  EXPECT_EQ(parse_json_file(dir / "out/run.json").at("recipe").at("lr"), 5e-3);
  EXPECT_FALSE(std::filesystem::exists(dir / "out/checkpoint.safetensors"));

  // The base model's own dropout is no part of the recipe unless asked for.
  EXPECT_EQ(run.at("recipe").at("dropout"), false);
  const Result dropping =
      graft("tune --json --dropout --steps 2 --batch 16 --output " + (dir / "dropping") + task,
            Streams::out);
  ASSERT_EQ(dropping.status, 0) << dropping.output;
  EXPECT_EQ(parse_json_file(dir / "dropping/run.json").at("recipe").at("dropout"), true);
  EXPECT_NE(dropping.json().at("losses").at(0), run.at("losses").at(0));

  const Result eval = graft("eval --json --adapter " + (dir / "out") + task, Streams::out);
  ASSERT_EQ(eval.status, 0) << eval.output;
  EXPECT_DOUBLE_EQ(eval.json().at("metrics").at("accuracy").get<double>(), accuracy);

  const Result merged = graft(
      "merge --json --adapter " + (dir / "out") + " --output " + (dir / "merged") + minilm_option(),
      Streams::out);
  ASSERT_EQ(merged.status, 0) << merged.output;
  EXPECT_LT(merged.json().at("max_abs_difference").get<double>(), 2e-5);
  EXPECT_EQ(graft("inspect --json " + (dir / "merged"), Streams::out).json().at("whole"), true);
  const std::string small = " --dtype bf16 --shard-bytes 10000000 --output " + (dir / "small");
  const Json files =
      graft("merge --json --adapter " + (dir / "out") + small + minilm_option(), Streams::out)
          .json()
          .at("files");
  EXPECT_GT(files.size(), 3u);
  const Json inspected = graft("inspect --json " + (dir / "small"), Streams::out).json();
  EXPECT_EQ(inspected.at("whole"), true) << inspected.at("problems");
  EXPECT_EQ(inspected.at("files").size() + 1, files.size());  // and the index
  EXPECT_FALSE(inspected.at("dtypes").contains("f32"));
  const Result again =
      graft("eval --json --model " + (dir / "merged") + " --task " + (dir / "things.train.tsv"),
            Streams::out);
  ASSERT_EQ(again.status, 0) << again.output;
  EXPECT_DOUBLE_EQ(again.json().at("metrics").at("accuracy").get<double>(), accuracy);

  // Half of the same effect twice.
  const std::string twice = " --adapter " + (dir / "out") + " --adapter " + (dir / "out");
  const Result halves = graft(
      "merge --json" + twice + " --weights 0.5 0.5 --output " + (dir / "halves") + minilm_option(),
      Streams::out);
  ASSERT_EQ(halves.status, 0) << halves.output;
  const Result half =
      graft("eval --json --model " + (dir / "halves") + " --task " + (dir / "things.train.tsv"),
            Streams::out);
  EXPECT_DOUBLE_EQ(half.json().at("metrics").at("accuracy").get<double>(), accuracy);
  EXPECT_EQ(
      graft("merge" + twice + " --weights 1 --output " + (dir / "no") + minilm_option()).status, 2);

  // The written configuration is a recipe for the same method.
  const Result same = graft(
      "plan --json --method " + (dir / "out/adapter_config.json") + minilm_option(), Streams::out);
  EXPECT_EQ(same.json().at("trainable_parameters"), 73728);
}

TEST(TrainCli, UserFilesAndColumns) {
  const TemporaryFolder dir;
  std::string csv = "kind,phrase\r\n", jsonl;
  for (const auto& [text, kind] : things()) {
    csv += fmt::format("{},\"{}\"\r\n", kind, text);
    jsonl += Json{{"phrase", text}, {"kind", kind}}.dump() + "\n";
  }
  write_file(dir / "things.csv", csv);
  write_file(dir / "things.jsonl", jsonl);
  std::vector<Json> losses;
  for (const char* file : {"things.csv", "things.jsonl"}) {
    const Result r = graft(
        "tune --json --steps 4 --batch 8 --method bitfit --text-column phrase --label-column "
        "kind --metric macro_f1 --eval-every 2 --task " +
            (dir / file) + " --output " + (dir / "out") + minilm_option(),
        Streams::out);
    ASSERT_EQ(r.status, 0) << r.output;
    EXPECT_TRUE(r.json().at("metrics").contains("macro_f1"));
    losses.push_back(r.json().at("losses"));
  }
  // Rows without an id are named by their line, which the header moves by one; so only the start,
  // before any order matters, is known to be near chance.
  for (const Json& l : losses) EXPECT_NEAR(l[0].get<double>(), std::log(2), 0.1);
  EXPECT_NE(read_file(dir / "out/curves.csv").find("step,loss,lr"), std::string::npos);
}

TEST(TrainCli, CompareWritesTableAndReport) {
  const TemporaryFolder dir;
  write_tsv(dir / "things");
  const Result r =
      graft("compare --json --methods head,lora --seeds 2 --steps 3 --batch 16 --task " +
                (dir / "things.train.tsv") + " --output " + (dir / "out") + minilm_option(),
            Streams::out);
  ASSERT_EQ(r.status, 0) << r.output;
  const Json rows = r.json().at("rows");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].at("method"), "lora");
  EXPECT_EQ(rows[1].at("seeds").size(), 2u);
  for (const char* key : {"metric_mean", "metric_deviation", "storage_bytes", "inference_overhead",
                          "seconds_per_step", "peak_bytes"}) {
    EXPECT_TRUE(rows[1].contains(key)) << key;
  }
  EXPECT_EQ(parse_json_file(dir / "out/results.json"), r.json());
  const std::string page = read_file(dir / "out/report.html");
  EXPECT_EQ(page.find("http"), std::string::npos) << "the page loads nothing";
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(dir / "out/lora/seed1/adapter_config.json"));
}

// Starts a long run, interrupts it, resumes it: as if nothing had happened.
TEST(TrainCli, InterruptAndResume) {
  const TemporaryFolder dir;
  write_tsv(dir / "things");
  const std::string options =
      "tune --steps 16 --batch 16 --set lora_dropout=0.1 --set r=16 "
      "--optim adamw_8bit --task " +
      (dir / "things.train.tsv") + minilm_option() + " --output ";
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    freopen("/dev/null", "w", stderr);
    execl("/bin/sh", "sh", "-c",
          ("exec " GRAFT_PROGRAM " " + options + (dir / "a") + " --save-every 1").c_str(), nullptr);
    _exit(127);
  }
  const std::string checkpoint = dir / "a/checkpoint.safetensors";
  int status = 0;
  while (!std::filesystem::exists(checkpoint) && waitpid(child, &status, WNOHANG) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  kill(child, SIGINT);
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  ASSERT_TRUE(std::filesystem::exists(checkpoint));
  EXPECT_FALSE(std::filesystem::exists(dir / "a/adapter_model.safetensors"));
  const Result other = graft(options + (dir / "a") + " --resume --lr 1");
  EXPECT_EQ(other.status, 2) << other.output;
  EXPECT_NE(other.output.find("lr = 0.005"), std::string::npos) << other.output;
  ASSERT_EQ(graft(options + (dir / "a") + " --resume").status, 0);
  ASSERT_EQ(graft(options + (dir / "b")).status, 0);
  const std::string a = read_file(dir / "a/adapter_model.safetensors"),
                    b = read_file(dir / "b/adapter_model.safetensors");
  EXPECT_TRUE(a == b) << "the resumed run ends with other bytes";
}

}  // namespace
}  // namespace graft::testing
