// Folders that save_model writes hold what was stored, in the types and files asked for.
#include "models/save_model.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <limits>

#include "core/atomic_file.h"
#include "models/model.h"
#include "models/weights.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

std::string bert_folder() { return golden_dir() + "/models/bert_cls"; }

struct Model {
  explicit Model(const std::string& f) : folder(f), config(load_config(f)) {
    graph = build_model(config, {.head = head_of(config)});
    load_parameters(folder, graph, store);
  }
  std::vector<std::string> save(const std::string& to, const SaveOptions& options = {}) const {
    return save_model(to, folder, config.raw, graph, store, options);
  }
  std::string folder;
  ModelConfig config;
  Graph graph;
  ParamStore store;
};

std::string file_text(const std::string& folder, std::string_view name) {
  return read_file(fmt::format("{}/{}", folder, name));
}

TEST(SavedModel, HoldsWhatWasLoadedInAnyTypeAndSplit) {
  const Model model(bert_folder());
  const FolderWeights old = open_weights(bert_folder());
  uint64_t all = 0;
  for (const auto& [name, t] : old.tensors) all += t.size_bytes();
  for (const auto dtype : {std::optional<DType>(), std::optional(DType::f32),
                           std::optional(DType::f16), std::optional(DType::bf16)}) {
    const uint64_t size = dtype.has_value() ? size_of(*dtype) : 4;
    for (const uint64_t limit : {all, all / 3, uint64_t{1}}) {
      SCOPED_TRACE(fmt::format("{} {}", dtype.has_value() ? name_of(*dtype) : "as it is", limit));
      const TemporaryFolder folder;
      const std::vector<std::string> files = model.save(folder.path(), {dtype, limit});
      const FolderWeights now = open_weights(folder.path());
      ASSERT_EQ(now.tensors.size(), old.tensors.size());
      for (const auto& [name, t] : old.tensors) {
        const Tensor want = t.cast(dtype.value_or(t.dtype()));
        EXPECT_EQ(now.tensors.at(name).dtype(), want.dtype());
        EXPECT_EQ(mismatch(now.tensors.at(name).cast(DType::f32), want.cast(DType::f32), 0, 0), "");
      }
      const bool single = all / 4 * size <= limit;
      EXPECT_EQ(files.size() == 1, single);
      EXPECT_EQ(folder.entries(), files.size() + 1);  // config.json
      for (const std::string& file : files) {
        EXPECT_TRUE(std::filesystem::exists(folder / file)) << file;
        if (!file.ends_with(".safetensors")) continue;
        const SafeTensors part = SafeTensors::open(folder / file);
        EXPECT_EQ(part.metadata().at("format"), "pt");
        uint64_t bytes = 0;
        for (const auto& [name, t] : part.tensors()) bytes += t.size_bytes();
        EXPECT_TRUE(bytes <= limit || part.tensors().size() == 1) << file << " " << bytes;
      }
      if (single) continue;
      EXPECT_TRUE(files[0].starts_with("model-00001-of-0")) << files[0];
      const Json index = parse_json_file(folder / std::string(kShardIndexFile));
      EXPECT_EQ(index.at("metadata").at("total_size"), all / 4 * size);
    }
  }
}

TEST(SavedModel, KeepsConfigAndTheFilesBesideTheWeights) {
  const TemporaryFolder from, to;
  Json config = parse_json_file(bert_folder() + "/config.json");
  config["a_field_of_tomorrow"] = {{"b", {1, 2.5, nullptr}}};
  write_json_file(from / "config.json", config);
  std::filesystem::copy(bert_folder() + "/model.safetensors", from / "model.safetensors");
  for (const char* name : {"generation_config.json", "vocab.txt", "merges.txt", "spiece.model"})
    write_file(from / name, std::string("of ") + name + std::string("\0\n", 2));
  write_file(from / "optimizer.bin", "not the model's");
  const Model model(from.path());
  model.save(to.path());
  for (const char* name : {"generation_config.json", "vocab.txt", "merges.txt", "spiece.model"})
    EXPECT_EQ(file_text(to.path(), name), file_text(from.path(), name)) << name;
  EXPECT_FALSE(std::filesystem::exists(to / "optimizer.bin"));
  EXPECT_EQ(file_text(to.path(), "config.json"), file_text(from.path(), "config.json"));
  // Another type is told in the field that the folder has.
  for (const char* field : {"dtype", "torch_dtype", ""}) {
    Json raw = config;
    raw.erase("dtype");
    raw.erase("torch_dtype");
    if (*field != '\0') raw[field] = "float32";
    save_model(to.path(), from.path(), raw, model.graph, model.store, {.dtype = DType::bf16});
    const Json now = parse_json_file(to / "config.json");
    EXPECT_EQ(now.at(*field == '\0' ? "torch_dtype" : field), "bfloat16");
    EXPECT_EQ(now.contains("dtype") && now.contains("torch_dtype"), false);
  }
  EXPECT_NE(error_of<UsageError>([&] {
              model.save(to.path(), {.dtype = DType::i64});
            }).find("f32, f16 or bf16, not as i64"),
            std::string::npos);
}

// Tensors of the old folder, a parameter changed to 2, and the tensors of the new one.
struct NameCase {
  const char* what;
  std::vector<std::string> params;
  std::map<std::string, Tensor> old;
  std::vector<std::string> names, changed;
};

TEST(SavedModel, WhatF16CannotHoldIsRefused) {
  const TemporaryFolder folder;
  const ModelConfig config = load_config(golden_dir() + "/models/bert_cls");
  const Graph graph = build_model(config, {.head = Head::classification});
  const std::string name = "classifier.bias";
  const auto save = [&](float value, DType dtype) {
    ParamStore store;
    load_parameters(config.folder, graph, store);
    Tensor t = store.get(name).clone();
    t.data<float>()[1] = value;
    store.set(name, t);
    save_model(folder.path(), config.folder, config.raw, graph, store, {.dtype = dtype});
  };
  for (const float fits : {65504.0F, -65519.0F, std::numeric_limits<float>::infinity()})
    EXPECT_NO_THROW(save(fits, DType::f16)) << fits;
  EXPECT_NO_THROW(save(1e30F, DType::bf16));
  for (const float large : {65520.0F, -1e30F}) {
    const std::string error = error_of<UsageError>([&] { save(large, DType::f16); });
    EXPECT_NE(error.find("'classifier.bias' holds"), std::string::npos) << error;
    EXPECT_NE(error.find("save the model as bf16 or f32"), std::string::npos) << error;
  }
}

TEST(SavedModel, NamesAreTheFolders) {
  auto t = [](float a, float b, DType dtype = DType::f32) {
    return Tensor::from<float>({2}, std::vector<float>{a, b}).cast(dtype);
  };
  const NameCase cases[] = {
      {"as they are", {"a.w"}, {{"a.w", t(1, 3)}, {"x", t(5, 6)}}, {"a.w", "x"}, {"a.w"}},
      {"below the file's prefix",
       {"a.w", "b.w"},
       {{"m.a.w", t(1, 3)}, {"m.b.w", t(4, 5)}},
       {"m.a.w", "m.b.w"},
       {"m.a.w", "m.b.w"}},
      {"the head brings the class's names",
       {"m.a.w", "m.b.w", "head.w"},
       {{"a.w", t(1, 3)}, {"b.w", t(4, 5)}, {"pooler.w", t(7, 8)}},
       {"head.w", "m.a.w", "m.b.w", "m.pooler.w"},
       {"head.w", "m.a.w", "m.b.w"}},
      {"a tied tensor's second name would be stale",
       {"m.a.w"},
       {{"m.a.w", t(1, 3)}, {"lm_head.w", t(1, 3)}},
       {"m.a.w"},
       {"m.a.w"}},
      {"equal ones are not tied",
       {"m.a.w"},
       {{"m.a.w", t(1, 1)}, {"ones", t(1, 1)}},
       {"m.a.w", "ones"},
       {"m.a.w"}},
      {"types stay",
       {"a.w"},
       {{"a.w", t(1, 3, DType::bf16)}, {"ids", t(1, 3, DType::i64)}, {"h", t(1, 2, DType::f16)}},
       {"a.w", "h", "ids"},
       {"a.w"}},
  };
  for (const NameCase& c : cases) {
    SCOPED_TRACE(c.what);
    const TemporaryFolder from, to;
    save_safetensors(from / std::string(kWeightsFile), c.old);
    Builder b;
    ParamStore store;
    for (const std::string& name : c.params) {
      const Init init = name.starts_with("head") ? Init::zeros() : Init::given();
      b.param({.name = name, .type = {DType::f32, {2}}, .init = init});
      store.set(name, t(2, 2));
    }
    b.param({.name = "lora.a", .type = {DType::f32, {2}}, .adapter = "lora"});
    store.set("lora.a", t(2, 2));
    save_model(to.path(), from.path(), Json::object(), b.finish(), store);
    const FolderWeights now = open_weights(to.path());
    std::vector<std::string> names, changed;
    for (const auto& [name, tensor] : now.tensors) {
      names.push_back(name);
      if (mismatch(tensor.cast(DType::f32), t(2, 2), 0, 0).empty()) changed.push_back(name);
      const auto before = c.old.find(name);
      EXPECT_EQ(tensor.dtype(), before == c.old.end() ? DType::f32 : before->second.dtype());
    }
    EXPECT_EQ(names, c.names);
    EXPECT_EQ(changed, c.changed);
  }
}

TEST(SavedModel, FilesOfAnOlderModelAreNotInTheWay) {
  const Model model(bert_folder());
  const TemporaryFolder folder;
  write_file(folder / "notes.txt", "mine");
  for (const uint64_t limit : {uint64_t{20000}, uint64_t{1} << 30, uint64_t{30000}}) {
    SCOPED_TRACE(limit);
    const auto files = model.save(folder.path(), {.shard_bytes = limit});
    EXPECT_EQ(folder.entries(), files.size() + 2);  // config.json and the notes
    EXPECT_EQ(open_weights(folder.path()).tensors.size(),
              open_weights(bert_folder()).tensors.size());
  }
  EXPECT_EQ(file_text(folder.path(), "notes.txt"), "mine");
}

TEST(SavedModel, AFolderMayBeSavedOverItself) {
  const TemporaryFolder folder;
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy(bert_folder() + "/" + name, folder / name);
  const Model model(folder.path());
  model.save(folder.path(), {.dtype = DType::bf16, .shard_bytes = 20000});
  for (const auto& [name, t] : open_weights(bert_folder()).tensors) {
    EXPECT_EQ(mismatch(open_weights(folder.path()).tensors.at(name).cast(DType::f32),
                       t.cast(DType::bf16).cast(DType::f32), 0, 0),
              "");
  }
}

// f's result as the exit status of a child, where no file may grow beyond `bytes`.
int with_file_limit(rlim_t bytes, int (*f)(const Model&, const TemporaryFolder&),
                    const Model& model, const TemporaryFolder& folder) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit { bytes, bytes };
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::_exit(f(model, folder));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(SavedModel, AFullDiskLeavesTheOlderModel) {
  const Model model(bert_folder());
  const TemporaryFolder folder;
  model.save(folder.path(), {.shard_bytes = 20000});
  const size_t entries = folder.entries();
  const std::string config = file_text(folder.path(), "config.json");
  // Each tensor has a file of its own: the first ones fit, a later one does not.
  const int status = with_file_limit(
      8000,
      [](const Model& m, const TemporaryFolder& to) {
        const std::string error = error_of([&] { m.save(to.path(), {.shard_bytes = 1}); });
        const bool told = error.find("File too large; make room") != std::string::npos;
        if (!told) std::fprintf(stderr, "%s\n", error.c_str());
        return told ? 0 : 1;
      },
      model, folder);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(folder.entries(), entries);
  EXPECT_EQ(file_text(folder.path(), "config.json"), config);
  EXPECT_EQ(open_weights(folder.path()).tensors.size(), open_weights(bert_folder()).tensors.size());
}

}  // namespace
}  // namespace graft::testing
