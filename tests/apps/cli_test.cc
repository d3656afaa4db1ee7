// The program's borders: exit status, messages, JSON.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/safetensors.h"
#include "tests/apps/program.h"
#include "tests/support/golden.h"

namespace graft::testing {
namespace {

struct Refusal {
  const char* name;
  std::string arguments;  // {model}: MiniLM, {dir}: a folder with the files below
  int status;
  std::string message;
};

// config.json lacks a field; t.train.tsv is in order, its test file is not; bad.csv has an open
// quote; cut.safetensors ends in its header.
void write_files(const TemporaryFolder& dir) {
  write_file(dir / "config.json", R"({"model_type": "bert", "hidden_size": 8})");
  write_file(dir / "t.train.tsv", "id\tlabel\ttext_a\ttext_b\n1\tred\tone\t\n2\tblue\ttwo\t\n");
  write_file(dir / "t.dev.tsv", "id\tlabel\ttext_a\ttext_b\n1\tred\tone\t\n");
  write_file(dir / "t.test.tsv", "id\tlabel\ttext_a\ttext_b\n1\tred\tone\n");
  write_file(dir / "bad.csv", "text,label\n\"never closed,1\n");
  write_file(dir / "words.csv", "phrase,label\na,1\nb,0\n");
  write_file(dir / "one.csv", "text,label\na,x\nb,x\nc,x\nd,x\n");
  write_file(dir / "label.jsonl", "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\"}\n");
  write_file(dir / "cut.safetensors", std::string("\x40\0\0\0\0\0\0\0{\"a\":", 13));
}

const std::vector<Refusal>& refusals() {
  static const std::string tune = "tune {model} --output {dir}/out --task {dir}/";
  static const std::vector<Refusal> table = {
      {"NoCommand", "", 2, "subcommand is required"},
      {"NoOptions", "tune", 2, "--model is required"},
      {"Method", "plan --method lorra {model}", 2, "there is no method 'lorra'; known: full"},
      {"Hyperparameter", "plan --set rank=4 {model}", 2, "no hyperparameter 'rank'"},
      {"Kind", "plan --set r=four {model}", 2, "'r' should be like 8 but is \"four\""},
      {"Set", "plan --set r {model}", 2, "--set takes key=value, got 'r'"},
      {"Target", "plan --set 'target_modules=[\"q_proj\"]' {model}", 2,
       "encoder.layer.0.attention.self.query"},
      {"Task", "eval --task supersense {model}", 2, "give wordnet:NAME"},
      {"Metric", "eval --task wordnet:sim --metric accuracy {model}", 2,
       "the metric 'accuracy' does not fit the task sim; these do: spearman, pearson"},
      {"Length", "plan --length 600 {model}", 2, "the model has 512 positions"},
      {"LengthBesideAPrefix", "plan --method prefix_tuning --length 503 {model}", 2,
       "a length of 503 does not fit beside the 10 of prefix_tuning"},
      {"TaskKind", "plan --task-kind ranking {model}", 2, "--task-kind: ranking not in"},
      {"LanguageOfAnEncoder", "plan --task-kind language {model}", 2,
       "language modelling needs a decoder; models of type bert have none"},
      {"Dropout", "plan --dropout --model " GRAFT_SOURCE_DIR "/examples/configs/llama-110m.json", 2,
       "the config of this llama model states a rate of 0"},
      {"TargetLength", "bench --target-length 4 {model}", 2, "only a decoder with an encoder"},
      {"BudgetText", "plan --budget lots {model}", 2, "--budget takes auto or bytes"},
      {"BudgetOfAuto", "plan --recompute auto {model}", 2, "give --budget"},
      {"Offload", "bench --offload /proc {model}", 3, "cannot make a file in '/proc'"},
      {"Device", "plan --device cuda {model}", 1, "no such device; use --device cpu"},
      {"Precision", "plan --precision bf16 {model}", 1, "use --precision fp32"},
      {"MergedType", "merge {model} --adapter A --output O --dtype i64", 2, "--dtype: i64 not in"},
      {"NoFile", "inspect /nonexistent", 3, "/nonexistent"},
      {"NoModel", "plan --model /nonexistent", 3, "/nonexistent"},
      {"Config", "plan --model {dir}", 3, "'num_hidden_layers' is missing"},
      {"Rows", tune + "t.train.tsv", 3, "t.test.tsv:2: 3 columns instead of the 4"},
      {"Quote", tune + "bad.csv", 3, "bad.csv:2: the quote that opens here is never closed"},
      {"Column", tune + "words.csv", 3, "no column holds the text; name it with --text-column"},
      {"NamedColumn", tune + "words.csv --text-column word", 3,
       "there is no column 'word'; it has"},
      {"OneLabel", tune + "one.csv", 3, "nothing to tell apart"},
      {"Field", tune + "label.jsonl", 3, "label.jsonl:2: the field 'label' of the first row"},
      {"Truncated", "inspect {dir}/cut.safetensors", 3, "cut.safetensors"},
      {"NoCheckpoint", tune + "words.csv --text-column phrase --resume", 3,
       "checkpoint.safetensors"},
      {"Budget", "plan --budget 100M {model}", 4, "the budget is 104857600 bytes, the step needs"},
  };
  return table;
}

class CliRefusals : public ::testing::TestWithParam<Refusal> {};

TEST_P(CliRefusals, StatusAndMessage) {
  const TemporaryFolder dir;
  write_files(dir);
  std::string arguments = GetParam().arguments;
  for (const auto& [key, value] : {std::pair{std::string("{model}"), minilm_option()},
                                   std::pair{std::string("{dir}"), dir.path()}}) {
    for (size_t at; (at = arguments.find(key)) != std::string::npos;)
      arguments.replace(at, key.size(), value);
  }
  const Result r = graft(arguments);
  EXPECT_EQ(r.status, GetParam().status) << r.output;
  EXPECT_NE(r.output.find(GetParam().message), std::string::npos) << r.output;
}

INSTANTIATE_TEST_SUITE_P(All, CliRefusals, ::testing::ValuesIn(refusals()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(Cli, MethodsSayWhatTheyAre) {
  const Json methods = graft("methods --json", Streams::out).json().at("methods");
  std::map<std::string, bool> merges;
  for (const Json& m : methods) {
    merges[m.at("name")] = m.at("mergeable");
    EXPECT_FALSE(m.at("reference").get<std::string>().empty()) << m.at("name");
  }
  EXPECT_TRUE(merges.at("lora"));
  EXPECT_TRUE(merges.at("ia3"));
  EXPECT_TRUE(merges.at("bitfit"));
  EXPECT_FALSE(merges.at("houlsby"));
  EXPECT_FALSE(merges.at("prefix_tuning"));
  EXPECT_FALSE(merges.at("lst"));
}

TEST(Cli, InspectShowsShardsTypesAndWhatIsMissing) {
  const TemporaryFolder dir;
  const std::string from = golden_dir() + "/models/bert_cls";
  write_file(dir / "config.json", read_file(from + "/config.json"));
  write_file(dir / "vocab.txt", "[UNK]\n[CLS]\n[SEP]\n");
  std::map<std::string, Tensor> parts[2];
  Json map = Json::object();
  auto put = [&](size_t part, const std::string& name, const Tensor& t) {
    parts[part][name] = t;
    map[name] = fmt::format("{}.safetensors", part);
  };
  const SafeTensors file = SafeTensors::open(from + "/model.safetensors");
  for (const auto& [name, t] : file.tensors()) put(t.shape().rank() - 1, name, t);
  put(0, "lm_head.weight", Tensor(DType::bf16, {3}));
  for (const char* part : {"0", "1"})
    save_safetensors(dir / (part + std::string(".safetensors")), parts[*part - '0']);
  write_json_file(dir / "model.safetensors.index.json", {{"weight_map", map}});
  const Json whole = graft("inspect --json " + dir.path()).json();
  EXPECT_EQ(whole.at("whole"), true) << whole.at("problems");
  EXPECT_EQ(whole.at("dtypes"), Json({{"bf16", 1}, {"f32", file.tensors().size()}}));
  EXPECT_EQ(whole.at("unknown"), Json::array({"lm_head.weight"}));
  ASSERT_EQ(whole.at("files").size(), 2u);
  EXPECT_EQ(whole.at("files")[1].at("name"), "1.safetensors");
  EXPECT_EQ(whole.at("files")[1].at("tensors"), parts[1].size());
  const std::string text = graft("inspect " + dir.path()).output;
  for (const char* part : {"not read by the model: lm_head.weight\n", "tensors (1 bf16, ",
                           "0.safetensors: ", "; whole\n"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << text;
  }
  std::filesystem::remove(dir / "1.safetensors");
  const Json broken = graft("inspect --json " + dir.path()).json();
  EXPECT_EQ(broken.at("whole"), false);
  EXPECT_EQ(broken.at("problems").size(), 1u);
  EXPECT_NE(broken.at("problems")[0].get<std::string>().find("the shard '1.safetensors'"),
            std::string::npos)
      << broken;
}

TEST(Cli, TextsBecomeTokensAndVectors) {
  const TemporaryFolder dir;
  write_file(dir / "texts", "A dog.\nA puppy.\nTax law of 1912, in force.\n");
  const Json tokens =
      graft("encode --json " + (dir / "texts") + minilm_option(), Streams::out).json();
  ASSERT_EQ(tokens.size(), 3u);
  EXPECT_EQ(tokens[0].at("tokens"), (Json{"[CLS]", "a", "dog", ".", "[SEP]"}));
  const Json e = graft("embed --json " + (dir / "texts") + minilm_option(), Streams::out)
                     .json()
                     .at("embeddings");
  auto similarity = [&](size_t i, size_t j) {
    double sum = 0;
    for (size_t k = 0; k < e[i].size(); ++k) sum += e[i][k].get<double>() * e[j][k].get<double>();
    return sum;
  };
  EXPECT_NEAR(similarity(0, 0), 1, 1e-5);
  EXPECT_GT(similarity(0, 1), 0.7);
  EXPECT_LT(similarity(0, 2), 0.2);
}

}  // namespace
}  // namespace graft::testing
