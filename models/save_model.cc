#include "models/save_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "models/weights.h"

namespace graft {
namespace {

// What a model folder holds beside config.json and weights.
constexpr const char* kCopied[] = {"generation_config.json",
                                   "tokenizer.json",
                                   "tokenizer_config.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.txt",
                                   "vocab.json",
                                   "merges.txt",
                                   "spiece.model",
                                   "tokenizer.model",
                                   "spm.model",
                                   "sentencepiece.bpe.model",
                                   "chat_template.jinja",
                                   "chat_template.json",
                                   "preprocessor_config.json"};

using Tensors = std::map<std::string, TensorAs>;

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

// Zeros, ones: tensors that may be equal without having anything to do with each other.
bool is_one_value(const Tensor& t) {
  const size_t element = size_of(t.dtype());
  const auto* p = static_cast<const std::byte*>(t.bytes());
  return t.size_bytes() <= element || std::memcmp(p, p + element, t.size_bytes() - element) == 0;
}

// Tensors of the old folder that no parameter reads, less the second names of tied ones: with the
// parameter changed those would be stale.
std::vector<std::string> kept(const FolderWeights& old, const NameMatch& match) {
  std::multimap<size_t, const Tensor*> read;  // by size
  for (const auto& [param, name] : match.tensor_of) {
    const Tensor& t = old.tensors.at(name);
    read.emplace(t.size_bytes(), &t);
  }
  std::vector<std::string> names;
  for (const std::string& name : match.unread) {
    const Tensor& t = old.tensors.at(name);
    const auto [first, last] = read.equal_range(t.size_bytes());
    const bool tied =
        std::any_of(first, last, [&](const auto& r) { return same_bytes(*r.second, t); }) &&
        !is_one_value(t);
    if (!tied) names.push_back(name);
  }
  return names;
}

// What f16 cannot hold would be written as an infinity. Throws UsageError.
void check_range(const std::string& name, const TensorAs& t) {
  constexpr double kLargest = 65504, kRoundsUp = 65520;
  const Tensor& from = t.tensor;
  if (t.dtype != DType::f16 || from.dtype() == DType::f16) return;
  for (int64_t i = 0; i < from.elements(); ++i) {
    const double x = from.dtype() == DType::f32 ? static_cast<double>(from.data<float>()[i])
                                                : load_element(from.dtype(), from.bytes(), i);
    if (!(std::fabs(x) >= kRoundsUp) || std::isinf(x)) continue;
    throw UsageError(
        "'{}' holds {}, and f16 ends at {}: it would be saved as an infinity; save the model as "
        "bf16 or f32",
        name, x, kLargest);
  }
}

Tensors collect(const FolderWeights& old, const Graph& graph, const ParamStore& store,
                std::optional<DType> dtype) {
  const NameMatch match = match_names(graph, old);
  // A bare model's names go below the prefix: beside a head they would not be found.
  const bool renamed = match.rename == NameMatch::Rename::graph_has_prefix;
  Tensors tensors;
  for (const std::string& name : kept(old, match)) {
    const Tensor& t = old.tensors.at(name);
    tensors[renamed ? match.prefix + name : name] = {
        t, is_float(t.dtype()) ? dtype.value_or(t.dtype()) : t.dtype()};
  }
  for (const Param& p : graph.params()) {
    if (p.kind == Param::Kind::state || !p.adapter.empty() || !store.contains(p.name)) continue;
    const auto it = match.tensor_of.find(p.name);
    const Tensor* before = it == match.tensor_of.end() ? nullptr : &old.tensors.at(it->second);
    const DType own =
        before != nullptr && is_float(before->dtype()) ? before->dtype() : p.type.dtype;
    tensors[before == nullptr || renamed ? p.name : it->second] = {store.stored(p.name),
                                                                   dtype.value_or(own)};
  }
  for (const auto& [name, t] : tensors) check_range(name, t);
  return tensors;
}

// In the order of names, each as full as the limit allows.
std::vector<Tensors> split(const Tensors& tensors, uint64_t limit) {
  std::vector<Tensors> shards(1);
  uint64_t bytes = 0;
  for (const auto& [name, t] : tensors) {
    if (bytes > 0 && bytes + t.bytes() > limit) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back()[name] = t;
    bytes += t.bytes();
  }
  return shards;
}

// Weight files of a model that was here before and that would be read instead of, or lie about
// beside, the new ones.
std::vector<std::string> outdated(const std::string& folder,
                                  const std::vector<std::string>& written) {
  std::vector<std::string> names = {std::string(kWeightsFile), std::string(kShardIndexFile)};
  const std::string index = folder + "/" + names[1];
  if (std::filesystem::exists(index)) {
    try {
      for (const auto& [tensor, shard] : parse_shard_index(read_file(index), index).shard_of) {
        names.push_back(shard);
      }
    } catch (const FileError&) {  // then it is not known what belongs to it
    }
  }
  std::erase_if(names, [&](const auto& name) { return std::ranges::count(written, name) > 0; });
  return names;
}

const char* torch_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    default:
      throw UsageError("a model is saved as f32, f16 or bf16, not as {}", name_of(dtype));
  }
}

// The name of the field changed with transformers 5; older versions know only the first.
void set_dtype(Json& config, DType dtype) {
  const bool now = config.contains("dtype");
  if (now) config["dtype"] = torch_name(dtype);
  if (!now || config.contains("torch_dtype")) config["torch_dtype"] = torch_name(dtype);
}

}  // namespace

void name_labels(Json& config, int64_t labels, const std::vector<std::string>& names) {
  Json by_id = Json::object(), ids = Json::object();
  for (int64_t i = 0; i < labels; ++i) {
    const std::string name =
        names.empty() ? fmt::format("LABEL_{}", i) : names[static_cast<size_t>(i)];
    by_id[fmt::format("{}", i)] = name;
    ids[name] = i;
  }
  config["id2label"] = by_id;
  config["label2id"] = ids;
  if (config.contains("num_labels")) config["num_labels"] = labels;
}

std::vector<std::string> save_model(const std::string& folder, const std::string& from, Json config,
                                    const Graph& graph, const ParamStore& store,
                                    const SaveOptions& options) {
  if (options.dtype.has_value()) set_dtype(config, *options.dtype);
  // A model that began from nothing is like a folder without weights.
  const FolderWeights old = has_weights(from) ? open_weights(from) : FolderWeights{};
  const Tensors tensors = collect(old, graph, store, options.dtype);
  make_folders(folder);
  std::deque<AtomicFile> files;
  auto add = [&](const std::string& name, const auto& write) {
    write(files.emplace_back(folder + "/" + name));
    files.back().sync();
  };
  auto add_text = [&](const std::string& name, const std::string& text) {
    add(name, [&](AtomicFile& file) { file.write(text); });
  };

  std::vector<std::string> written;
  const std::vector<Tensors> shards = split(tensors, options.shard_bytes);
  if (shards.size() == 1) {
    written.emplace_back(kWeightsFile);
    add(written[0], [&](AtomicFile& file) { write_safetensors(file, tensors); });
  } else {
    uint64_t total = 0;
    std::map<std::string, std::string> shard_of;
    for (const Tensors& shard : shards) {
      written.push_back(
          fmt::format("model-{:05}-of-{:05}.safetensors", written.size() + 1, shards.size()));
      add(written.back(), [&](AtomicFile& file) { write_safetensors(file, shard); });
      for (const auto& [name, t] : shard) {
        total += t.bytes();
        shard_of[name] = written.back();
      }
    }
    written.emplace_back(kShardIndexFile);
    add_text(written.back(),
             json_text({{"metadata", {{"total_size", total}}}, {"weight_map", shard_of}}));
  }
  for (const char* name : kCopied) {
    const std::string source = from + "/" + name;
    if (std::filesystem::exists(source)) add_text(name, read_file(source));
  }
  add_text("config.json", json_text(config));

  const std::vector<std::string> in_the_way = outdated(folder, written);
  for (AtomicFile& file : files) file.commit();
  for (const std::string& name : in_the_way) {
    std::error_code none;
    std::filesystem::remove(folder + "/" + name, none);
  }
  return written;
}

}  // namespace graft
