// The weights of Hugging Face model folders: where their tensors lie and what a graph reads of
// them. Nothing is copied: tensors stay in the mapped files.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/param_store.h"
#include "core/safetensors.h"

namespace graft {

constexpr std::string_view kWeightsFile = "model.safetensors";
constexpr std::string_view kShardIndexFile = "model.safetensors.index.json";

// model.safetensors.index.json: which file of the folder holds a tensor.
struct ShardIndex {
  std::map<std::string, std::string, std::less<>> shard_of;
  std::optional<double> total_size;  // of all tensors in bytes, as the writer counted
};

// Throws FileError, also where a shard is not a file of the folder: it may not point outside.
ShardIndex parse_shard_index(std::string_view text, const std::string& source);

// The tensors of a folder, from its one file or from all shards.
struct FolderWeights {
  std::string source;  // model.safetensors or the index: names the folder's weights in errors
  std::map<std::string, Tensor, std::less<>> tensors;
  std::map<std::string, std::string, std::less<>> file_of;  // tensor -> file name in the folder
  // Tensors of shards that the index does not name, or names in another shard: not part of the
  // model.
  std::vector<std::string> unlisted;
};

bool has_weights(const std::string& folder);

// Maps the files; of model.safetensors and an index, the former counts, as in transformers. Throws
// FileError naming the file and what is wrong.
FolderWeights open_weights(const std::string& folder);

// Which tensor each parameter of a graph is read from. Files are written by a bare model or by one
// inside a class ("bert.", "model."), and graphs are built either way: at most one such prefix is
// taken away or put before all names that do not match as they are.
struct NameMatch {
  enum class Rename : uint8_t { none, file_has_prefix, graph_has_prefix };
  Rename rename = Rename::none;
  std::string prefix;                            // with its dot
  std::map<std::string, std::string> tensor_of;  // parameter -> tensor
  std::vector<std::string> unread;               // tensors that the graph has no use for
};

// Throws FileError where the file lacks a parameter that has no initializer, or where more than one
// prefix would do. Parameters of adapters and of optimizers are left out.
NameMatch match_names(const Graph& graph, const FolderWeights& weights);

// Fills the store with the parameters of a graph that it does not hold yet. Tensors of another
// float type are converted when they are used (ParamStore). Parameters of a head may be absent or
// made for other labels: they keep their initializer. Throws FileError.
NameMatch load_parameters(const std::string& folder, const Graph& graph, ParamStore& store);

}  // namespace graft
