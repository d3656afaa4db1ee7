// What a graph reads of a model folder: names, shards, and that nothing is copied before it is
// used.
#include "models/weights.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "autograd/compile.h"
#include "autograd/executor.h"
#include "autograd/ops.h"
#include "core/atomic_file.h"
#include "core/json.h"
#include "models/model.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace graft::testing {
namespace {

using Tensors = std::map<std::string, Tensor>;

std::string bert_folder() { return golden_dir() + "/models/bert_cls"; }

Tensors tensors_of(const std::string& folder) {
  Tensors tensors;
  for (const auto& [name, t] : open_weights(folder).tensors) tensors[name] = t;
  return tensors;
}

Graph bert_graph(const ModelConfig& config) {
  return build_model(config, {.batch = 2, .length = 5, .head = Head::classification});
}

// ---- names

// Parameters named so; an optional one begins with '?'.
Graph graph_with(const std::vector<std::string>& names) {
  Builder b;
  for (const std::string& name : names) {
    const bool optional = name.starts_with('?');
    b.param({.name = optional ? name.substr(1) : name,
             .type = {DType::f32, {2}},
             .init = optional ? Init::zeros() : Init::given()});
  }
  return b.finish();
}

TEST(WeightNames, OnePrefixServesAllParameters) {
  struct Case {
    const char* what;
    std::vector<std::string> params, tensors;
    std::vector<std::string> read;  // a tensor for each parameter, "" for none; empty: an error
    const char* error = "";
  };
  const Case cases[] = {
      {"as they are", {"a.x", "a.y"}, {"a.x", "a.y", "z"}, {"a.x", "a.y"}},
      {"the file has a prefix",
       {"l.0.w", "n.w"},
       {"model.l.0.w", "model.n.w"},
       {"model.l.0.w", "model.n.w"}},
      {"of two components",
       {"l.0.w", "n.w"},
       {"model.text.l.0.w", "model.text.n.w", "model.n.w"},
       {"model.text.l.0.w", "model.text.n.w"}},
      {"the graph has a prefix",
       {"h.l.w", "h.n.w", "?head.w"},
       {"l.w", "n.w", "w"},
       {"l.w", "n.w", ""}},
      {"with a head of its own",
       {"h.l.w", "h.n.w", "cls.w"},
       {"l.w", "n.w", "cls.w"},
       {"l.w", "n.w", "cls.w"}},
      {"an optional one is absent",
       {"l.w", "n.w", "?head.w"},
       {"m.l.w", "m.n.w"},
       {"m.l.w", "m.n.w", ""}},
      {"early BERT files",
       {"e.LayerNorm.weight", "e.LayerNorm.bias"},
       {"bert.e.LayerNorm.gamma", "bert.e.LayerNorm.beta"},
       {"bert.e.LayerNorm.gamma", "bert.e.LayerNorm.beta"}},
      {"no parameters", {}, {"a"}, {}},
      {"missing", {"a.x", "a.y"}, {"a.x"}, {}, "there is no tensor 'a.y', which the model needs"},
      {"missing below the prefix",
       {"l.w", "n.w", "o.w"},
       {"m.l.w", "m.n.w"},
       {},
       "there is no tensor 'o.w' or 'm.o.w'"},
      {"a like name elsewhere is not it",
       {"a.x", "a.y", "a.z"},
       {"a.x", "a.y", "other.a.z"},
       {},
       "there is no tensor 'a.z'"},
      {"two models in one file",
       {"l.w", "n.w"},
       {"enc.l.w", "enc.n.w", "dec.l.w", "dec.n.w"},
       {},
       "below 'dec.' and below 'enc.'"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    FolderWeights weights{.source = "FILE"};
    for (const std::string& name : c.tensors) weights.tensors[name] = Tensor(DType::f32, {2});
    NameMatch match;
    const std::string error = error_of([&] { match = match_names(graph_with(c.params), weights); });
    EXPECT_NE(error.find(c.error), std::string::npos) << error;
    EXPECT_EQ(error.empty(), *c.error == '\0') << error;
    if (!error.empty()) continue;
    size_t unread = c.tensors.size();
    for (size_t i = 0; i < c.read.size(); ++i) {
      const std::string name = c.params[i].substr(c.params[i].starts_with('?'));
      if (c.read[i].empty()) {
        EXPECT_FALSE(match.tensor_of.contains(name)) << name;
      } else {
        EXPECT_EQ(match.tensor_of[name], c.read[i]);
        --unread;
      }
    }
    EXPECT_EQ(match.unread.size(), unread);
  }
}

// Of tensors that are the same, a file may hold any.
TEST(WeightNames, ATiedWeightIsFoundUnderEachOfItsNames) {
  const TemporaryFolder folder;
  std::set<std::string> aliases;
  for (const char* name : {"gpt2", "llama_tied", "gemma2", "opt", "t5", "bert_mlm"}) {
    const std::string from = golden_dir() + "/models/" + name;
    const ModelConfig config = load_config(from);
    for (const Head head : {head_of(config), Head::mean_pooled}) {
      const Graph graph = build_model(config, {.head = head});
      const auto table =
          std::ranges::find_if(graph.params(), [](const Param& p) { return !p.aliases.empty(); });
      ASSERT_NE(table, graph.params().end()) << name;
      const std::string present = match_names(graph, open_weights(from)).tensor_of.at(table->name);
      for (const std::string& alias : table->aliases) {
        Tensors tensors = tensors_of(from);
        for (const std::string& other : table->aliases) tensors.erase(other);
        const Tensor weight = tensors.at(present);
        tensors.erase(present);
        tensors[alias] = weight;
        save_safetensors(folder / std::string(kWeightsFile), tensors);
        ParamStore store;
        const NameMatch match = load_parameters(folder.path(), graph, store);
        EXPECT_EQ(match.tensor_of.at(table->name), alias) << name;
        EXPECT_EQ(mismatch(store.get(table->name), weight.cast(DType::f32), 0, 0), "") << name;
        aliases.insert(alias);
      }
    }
  }
  for (const char* expected :
       {"lm_head.weight", "encoder.embed_tokens.weight", "cls.predictions.decoder.weight"})
    EXPECT_TRUE(aliases.contains(expected)) << expected;
}

// ---- shards

void write_shards(const TemporaryFolder& folder, const Tensors& tensors, Json metadata) {
  Tensors parts[2];
  Json map = Json::object();
  size_t i = 0;
  for (const auto& [name, t] : tensors) {
    const size_t part = i++ % 2;
    parts[part][name] = t;
    map[name] = fmt::format("part-{}.safetensors", part);
  }
  for (size_t part : {0, 1})
    save_safetensors(folder / fmt::format("part-{}.safetensors", part), parts[part]);
  write_json_file(folder / std::string(kShardIndexFile),
                  {{"metadata", std::move(metadata)}, {"weight_map", map}});
}

TEST(ShardedWeights, EqualTheSingleFile) {
  const TemporaryFolder folder;
  const Tensors tensors = tensors_of(bert_folder());
  write_shards(folder, tensors, {{"total_size", 200000}});
  const FolderWeights w = open_weights(folder.path());
  ASSERT_EQ(w.tensors.size(), tensors.size());
  for (const auto& [name, t] : tensors) {
    EXPECT_EQ(mismatch(w.tensors.at(name), t, 0, 0), "") << name;
    EXPECT_TRUE(w.file_of.at(name).starts_with("part-")) << name;
  }
  EXPECT_TRUE(w.unlisted.empty());
  const Graph graph = bert_graph(load_config(bert_folder()));
  ParamStore store;
  EXPECT_TRUE(load_parameters(folder.path(), graph, store).unread.empty());
  EXPECT_EQ(error_of<Error>([&] { store.check(graph); }), "");
  // A file of all tensors is what transformers would read, too.
  save_safetensors(folder / std::string(kWeightsFile), {{"only", Tensor(DType::f32, {1})}});
  EXPECT_EQ(open_weights(folder.path()).tensors.size(), 1u);
}

TEST(ShardedWeights, WhatTheIndexDoesNotNameIsNotTheModels) {
  const TemporaryFolder folder;
  const Tensor t(DType::f32, {1});
  save_safetensors(folder / "a.safetensors", {{"x", t}, {"y", t}, {"z", t}});
  save_safetensors(folder / "b.safetensors", {{"y", t}});
  write_json_file(folder / std::string(kShardIndexFile),
                  {{"weight_map", {{"x", "a.safetensors"}, {"y", "b.safetensors"}}}});
  const FolderWeights w = open_weights(folder.path());
  EXPECT_EQ(w.tensors.size(), 2u);
  EXPECT_EQ(w.unlisted, (std::vector<std::string>{"y", "z"}));
}

// ---- bytes

// Whether the bytes lie in a file of the folder mapped into memory.
bool is_mapped(const Tensor& t, const std::string& folder) {
  std::ifstream maps("/proc/self/maps");
  const auto at = reinterpret_cast<uintptr_t>(t.bytes());
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::istringstream(line) >> std::hex >> begin >> dash >> end;
    if (at >= begin && at < end) return line.find(folder) != std::string::npos;
  }
  return false;
}

size_t heap_bytes() {  // 0 under sanitizers, which have a heap of their own
  const struct mallinfo2 m = ::mallinfo2();
  return m.uordblks + m.hblkhd;
}

Tensors as_type(Tensors tensors, DType dtype) {
  for (auto& [name, t] : tensors) t = t.cast(dtype);
  return tensors;
}

TEST(WeightBytes, NothingIsCopiedBeforeItIsUsed) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    SCOPED_TRACE(name_of(dtype));
    const TemporaryFolder folder;
    constexpr int64_t kElements = 1 << 18;
    Builder b;
    b.param({.name = "big", .type = {DType::f32, {kElements}}, .init = Init::given()});
    const Graph big = b.finish();
    save_safetensors(folder / std::string(kWeightsFile),
                     {{"model.big", Tensor(dtype, {kElements})}});
    ParamStore store;
    const size_t before = heap_bytes();
    load_parameters(folder.path(), big, store);
    store.check(big);
    EXPECT_LT(heap_bytes(), before + (64 << 10));
    EXPECT_TRUE(is_mapped(store.stored("big"), folder.path()));
    EXPECT_EQ(store.stored("big").dtype(), dtype);
    // For a moment, then for good.
    EXPECT_EQ(std::as_const(store).get("big").dtype(), DType::f32);
    EXPECT_EQ(store.stored("big").dtype(), dtype);
    EXPECT_LT(heap_bytes(), before + (64 << 10));
    EXPECT_EQ(store.get("big").dtype(), DType::f32);
    EXPECT_EQ(is_mapped(store.stored("big"), folder.path()), dtype == DType::f32);
    if (before > 0) {
      EXPECT_EQ(heap_bytes() > before + kElements * sizeof(float) / 2, dtype != DType::f32);
    }
    // Training writes to bytes of its own, not to the mapping.
    store.own("big");
    EXPECT_FALSE(is_mapped(store.get("big"), folder.path()));
  }
}

TEST(WeightBytes, TheMappingOutlivesItsFile) {
  const TemporaryFolder folder;
  save_safetensors(folder / std::string(kWeightsFile),
                   {{"w", Tensor::from<float>({2}, std::vector<float>{1, 2})}});
  ParamStore store;
  load_parameters(folder.path(), graph_with({"w"}), store);
  std::filesystem::remove(folder / std::string(kWeightsFile));
  EXPECT_EQ(store.get("w").data<float>()[1], 2.0f);
}

// A frozen weight that is only packed never has its 32-bit form kept; results are those of widened
// weights, bit for bit.
TEST(WeightBytes, PackedWeightsOfHalfFilesAreNotWidenedInTheStore) {
  const ModelConfig config = load_config(bert_folder());
  const Graph graph = bert_graph(config);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    SCOPED_TRACE(name_of(dtype));
    const TemporaryFolder folder;
    const Tensors half = as_type(tensors_of(bert_folder()), dtype);
    save_safetensors(folder / std::string(kWeightsFile), half);
    ParamStore lazy, wide;
    load_parameters(folder.path(), graph, lazy);
    for (const Param& p : graph.params()) wide.set(p.name, half.at(p.name).cast(DType::f32));
    std::vector<Tensor> logits;
    for (ParamStore* store : {&lazy, &wide}) {
      Executor e(compile(graph), *store);
      for (const std::string& name : graph.input_names()) {
        for (int64_t& id : e.input(name).span<int64_t>()) id = 1;
      }
      e.run();
      logits.push_back(e.output("logits").clone());
    }
    EXPECT_EQ(mismatch(logits[0], logits[1], 0, 0), "");
    for (const Param& p : graph.params()) {
      if (p.name.find(".layer.") == std::string::npos || p.type.shape.rank() != 2) continue;
      EXPECT_EQ(lazy.stored(p.name).dtype(), dtype) << p.name;
    }
  }
}

}  // namespace
}  // namespace graft::testing
