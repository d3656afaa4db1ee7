// Adapter folders that are damaged, do not belong to the model, or cannot be written.
#include "peft/adapter_files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "core/atomic_file.h"
#include "models/model.h"
#include "models/weights.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

class AdapterFolder : public ::testing::Test {
 protected:
  AdapterFolder()
      : model_(load_config(golden_dir() + "/models/bert_cls")),
        base_(build_model(model_, {.length = 4, .head = Head::classification})) {
    write(R"({"peft_type": "LORA", "r": 2, "target_modules": ["query", "value"]})");
    config_ = peft::read_adapter_config(folder_.path());
    adapted_ = peft::apply(base_, *config_.method, config_.config);
    load_parameters(model_.folder, adapted_.graph, store_);
    peft::initialize(adapted_, store_, 1);
    save();
  }

  void write(const std::string& config) const {
    write_file(folder_ / "adapter_config.json", config);
  }
  void save() const {
    peft::save_adapter(folder_.path(), *config_.method, config_.config, adapted_.graph, store_,
                       "base");
  }
  std::string load_error() {
    return error_of<Error>([&] {
      const auto config = peft::read_adapter_config(folder_.path());
      const auto adapted = peft::apply(base_, *config.method, config.config);
      peft::load_adapter(folder_.path(), config, adapted.graph, store_);
    });
  }

  TemporaryFolder folder_;
  ModelConfig model_;
  Graph base_;
  peft::AdapterConfig config_;
  peft::Adapted adapted_;
  ParamStore store_;
};

TEST_F(AdapterFolder, ConfigurationsAreRefusedWithTheReason) {
  const std::pair<std::string, std::vector<const char*>> cases[] = {
      {"", {"adapter_config.json", "not valid JSON"}},
      {"[]", {"adapter_config.json", "'peft_type' is missing"}},
      {R"({"r": 2})", {"adapter_config.json", "'peft_type' is missing"}},
      {R"({"peft_type": 7})", {"'peft_type' should be a string but is 7"}},
      {R"({"peft_type": "LORA", "peft_type": "IA3"})", {"the key 'peft_type' stands twice"}},
      {R"({"peft_type": "XLORA"})", {"adapter_config.json", "reads the type XLORA", "LORA"}},
      {R"({"peft_type": "LORA", "graft_method": "magic"})", {"there is no method 'magic'"}},
      {R"({"peft_type": "LORA", "r": "two"})",
       {"adapter_config.json", "method 'lora'", "'r' should be like 8 but is \"two\""}},
      {R"({"peft_type": "LORA", "r": 0})", {"r should be positive but is 0"}},
      {R"({"peft_type": "LORA", "r": -4})", {"r should be positive but is -4"}},
      {R"({"peft_type": "LORA", "r": 4000, "target_modules": ["query"], "init_lora_weights": "pissa"})",
       {"r up to their smaller side", "query.weight is [", "r is 4000"}},
      {R"({"peft_type": "LORA", "target_modules": ["word_embeddings"], "init_lora_weights": "olora"})",
       {"takes products", "word_embeddings.weight is ["}},
      {R"({"peft_type": "LORA", "rank_pattern": {"query": "two"}})",
       {"a rank of rank_pattern should be", "\"two\""}},
      {R"({"peft_type": "LORA", "target_modules": [7]})", {"'target_modules'"}},
      {R"({"peft_type": "LORA", "target_modules": 7})", {"'target_modules'"}},
      {R"({"peft_type": "LORA", "target_modules": ["nothing"]})",
       {"[\"nothing\"] matches no module", "bert.encoder.layer.0.attention.self.query"}},
      {R"({"peft_type": "LORA", "target_modules": "(query"})", {"'(query' is not a regular"}},
      {R"({"peft_type": "LORA", "target_modules": "(.*)\\1"})", {"is not a regular"}},
      {R"({"peft_type": "LORA", "target_modules": "(((([a-z.]*)*)*)*)*!"})", {"matches no module"}},
      {R"({"peft_type": "LORA", "target_modules": ")" + std::string(100'000, '(') + "\"}",
       {"of 100000 characters is too long"}},
      {R"({"peft_type": "LORA", "modules_to_save": [1]})", {"'modules_to_save'"}},
  };
  for (const auto& [config, message] : cases) {
    write(config);
    const std::string error = load_error();
    for (const char* part : message)
      EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
  }
}

TEST_F(AdapterFolder, FieldsThatNobodyKnowsAreListed) {
  write(R"({"peft_type": "LORA", "r": 2, "target_modules": ["query", "value"], "lora_alpha": null,
            "use_magic": true, "revision": "main", "no_magic": false})");
  const auto config = peft::read_adapter_config(folder_.path());
  EXPECT_EQ(config.ignored, std::vector<std::string>{"use_magic"});
  EXPECT_EQ(config.config.at("lora_alpha"), 8);  // null: not set
  EXPECT_EQ(load_error(), "");
}

TEST_F(AdapterFolder, WrongTensorsAreNamedWithBothShapes) {
  const std::string file = folder_ / "adapter_model.safetensors";
  const std::string a = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight";
  const int64_t c = model_.hidden;
  std::map<std::string, Tensor> good;
  {
    const SafeTensors saved = SafeTensors::open(file);
    for (const auto& [name, t] : saved.tensors()) good[name] = t.clone();
  }
  ASSERT_TRUE(good.contains(a));
  EXPECT_EQ(load_error(), "");

  const std::string expected = fmt::format("f32[2, {}]", c);
  const struct {
    std::string name;
    Tensor tensor;  // empty: taken out
    std::vector<std::string> message;
  } cases[] = {
      {a, {}, {"there is no tensor '" + a, expected}},
      {a, Tensor(DType::f32, {3, c}), {a, expected, fmt::format("is f32[3, {}]", c)}},
      {a, Tensor(DType::i64, {2, c}), {a, expected, fmt::format("is i64[2, {}]", c)}},
      {"stranger", Tensor(DType::f32, {1}), {"1 tensors have no place", "'stranger'"}},
  };
  for (const auto& x : cases) {
    auto tensors = good;
    tensors.erase(x.name);
    if (!x.tensor.empty()) tensors[x.name] = x.tensor;
    save_safetensors(file, tensors);
    const std::string error = load_error();
    EXPECT_TRUE(error.starts_with(file)) << error;
    for (const std::string& part : x.message)
      EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
  }
  std::filesystem::remove(file);
  EXPECT_NE(load_error().find("No such file"), std::string::npos);
}

// The configuration cannot be written: the weights of the older adapter stay, too.
TEST_F(AdapterFolder, AFailedSaveLeavesTheOlderAdapterWhole) {
  const std::string weights = read_file(folder_ / "adapter_model.safetensors");
  const std::string config = folder_ / "adapter_config.json";
  std::filesystem::remove(config);
  make_folders(config);  // in the way
  for (const Param& p : adapted_.graph.params()) {
    if (p.trainable) store_.set(p.name, Tensor(p.type.dtype, p.type.shape));
  }
  const std::string error = error_of([&] { save(); });
  EXPECT_NE(error.find("it is a folder"), std::string::npos) << error;
  EXPECT_EQ(read_file(folder_ / "adapter_model.safetensors"), weights);
  EXPECT_EQ(folder_.entries(), 2u);
}

TEST_F(AdapterFolder, AFullDiskLeavesTheOlderAdapterWhole) {
  const std::string weights = read_file(folder_ / "adapter_model.safetensors");
  const pid_t child = ::fork();
  if (child == 0) {  // whose limit is its own
    std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit { 500, 500 };
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error = error_of([&] { save(); });
    ::_exit(error.find("make room") != std::string::npos ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder_ / "adapter_model.safetensors"), weights);
  EXPECT_EQ(folder_.entries(), 2u);
  EXPECT_EQ(load_error(), "");
}

}  // namespace
}  // namespace graft::testing
