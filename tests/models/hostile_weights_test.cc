// Damaged weight files and shard indices, and tokens that a model does not know.
#include <filesystem>

#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "models/batch.h"
#include "models/model.h"
#include "models/weights.h"
#include "tests/support/hostile.h"

namespace graft::testing {
namespace {

TEST(ModelFile, WrongTensorsAreNamedWithBothShapes) {
  const TemporaryFolder folder;
  const ModelConfig config = load_config(bert_folder());
  const Graph graph = build_model(config, {.head = Head::classification});
  std::map<std::string, Tensor> good;
  const SafeTensors file = SafeTensors::open(bert_folder() + "/model.safetensors");
  for (const auto& [name, t] : file.tensors()) good[name] = t;
  const std::string query = "bert.encoder.layer.0.attention.self.query.weight";
  const Tensor& weight = good.at(query);
  const int64_t n = weight.shape()[0];

  const std::string expected = fmt::format("f32[{}, {}]", n, n);
  const struct {
    Tensor replacement;  // empty: the tensor is taken out
    std::vector<std::string> message;
  } cases[] = {
      {{}, {"there is no tensor '" + query + "'", expected}},
      {Tensor(DType::f32, {n, n + 1}), {query, expected, fmt::format("is f32[{}, {}]", n, n + 1)}},
      {Tensor(DType::f32, {n * n}), {query, expected, fmt::format("is f32[{}]", n * n)}},
      {Tensor(DType::i64, {n, n}), {query, expected, fmt::format("is i64[{}, {}]", n, n)}},
  };
  for (const auto& c : cases) {
    auto tensors = good;
    tensors.erase(query);
    if (!c.replacement.empty()) tensors[query] = c.replacement;
    save_safetensors(folder / "model.safetensors", tensors);
    ParamStore store;
    const std::string error = error_of([&] { load_parameters(folder.path(), graph, store); });
    EXPECT_TRUE(error.starts_with(folder / "model.safetensors: ")) << error;
    for (const std::string& part : c.message) expect_parts(error, {part.c_str()});
  }
  std::filesystem::remove(folder / "model.safetensors");
  ParamStore store;
  expect_parts(error_of([&] { load_parameters(folder.path(), graph, store); }),
               {(folder / "model.safetensors").c_str(), "No such file"});
}

// A folder of the shards a and b with a tensor of 4 bytes each, x and y, and an index.
TEST(ShardIndexFile, EachDamageIsNamed) {
  const struct {
    const char *index, *message;
  } cases[] = {
      {R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})", ""},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": 4.0}})", ""},
      {R"({"weight_map": {"x": "a.safetensors", "y": "c.safetensors"}})",
       "the shard 'c.safetensors' with 1 tensors ('y', ...) is not in the folder"},
      {R"({"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}})",
       "tensor 'y' should be in 'a.safetensors', which does not hold it"},
      {R"({"weight_map": {"x": "a.safetensors", "z": "b.safetensors"}})",
       "tensor 'z' should be in 'b.safetensors', which does not hold it"},
      {R"({"weight_map": {"x": "cut.safetensors"}})", "cut.safetensors: 5 bytes are too few"},
      {R"({"weight_map": {"x": "../a.safetensors"}})", "is in \"../a.safetensors\""},
      {R"({"weight_map": {"x": "/etc/a.safetensors"}})", "is in \"/etc/a.safetensors\""},
      {R"({"weight_map": {"x": "sub\\a.safetensors"}})", "of the same folder"},
      {R"({"weight_map": {"x": "a\u0000.safetensors"}})", "of the same folder"},
      {R"({"weight_map": {"x": ""}})", "is in \"\""},
      {R"({"weight_map": {"x": ".."}})", "is in \"..\""},
      {R"({"weight_map": {"x": "pytorch_model.bin"}})", "should be in a .safetensors file"},
      {R"({"weight_map": {"x": 7}})", "is in 7"},
      {R"({"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}})",
       "the key 'x' stands twice"},
      {R"({"weight_map": {}})", "'weight_map' is missing"},
      {R"({"weight_map": ["a.safetensors"]})", "'weight_map' is missing or not an object"},
      {R"([])", "'weight_map' is missing"},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": 7})", "'metadata' is not an object"},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": "4"}})",
       "'total_size' should be a number of bytes but is \"4\""},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": -4}})", "but is -4"},
      {R"({"weight_map": {"x": "a.safetensors"}, "metadata": {"total_size": 4000}})",
       "total_size is 4000, but the tensors take 4 bytes"},
  };
  const TemporaryFolder folder;
  save_safetensors(folder / "a.safetensors", {{"x", Tensor(DType::f32, {1})}});
  save_safetensors(folder / "b.safetensors", {{"y", Tensor(DType::f32, {1})}});
  write_file(folder / "cut.safetensors", "\x10 {\"x");
  for (const auto& c : cases) {
    write_file(folder / std::string(kShardIndexFile), c.index);
    const std::string error = error_of([&] { open_weights(folder.path()); });
    EXPECT_EQ(error.empty(), *c.message == '\0') << c.index << ": " << error;
    EXPECT_TRUE(error.empty() || error.starts_with(folder.path())) << error;
    expect_parts(error, {c.message});
  }
}

TEST(ModelFile, PickledWeightsAreNotRead) {
  const TemporaryFolder folder;
  write_file(folder / "pytorch_model.bin", "");
  expect_parts(error_of([&] { open_weights(folder.path()); }),
               {"pytorch_model.bin", "safe_serialization"});
}

TEST(ModelFile, TokensBeyondTheModelsTablesAreRefused) {
  const ModelConfig config = load_config(bert_folder());
  std::map<std::string, Tensor> inputs;
  auto input = [&](const std::string& name) {
    return &inputs.try_emplace(name, DType::i64, Shape{1, 2}).first->second;
  };
  auto error = [&](std::vector<int64_t> ids, std::vector<int64_t> types) {
    const TokenRow row{ids, types};
    return error_of<UsageError>([&] { fill_inputs(config, std::span(&row, 1), 2, {}, input); });
  };
  EXPECT_EQ(error({1, 2}, {0, 1}), "");
  expect_parts(error({1, 97}, {0, 1}), {"token id 97", "vocab_size of 97", "belong together"});
  expect_parts(error({1, -1}, {0, 1}), {"token id -1"});
  expect_parts(error({1, 2}, {0, 2}), {"token type 2", "type_vocab_size of 2"});
}

}  // namespace
}  // namespace graft::testing
