// Hugging Face model folders, written so that transformers loads them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "autograd/param_store.h"
#include "core/json.h"

namespace graft {

struct SaveOptions {
  std::optional<DType> dtype;            // f32, f16 or bf16; none: each tensor as in the old folder
  uint64_t shard_bytes = 5'000'000'000;  // of tensors in one file; a larger tensor has its own
};

// Writes the parameters of a graph as a model folder that otherwise is like the folder `from`
// (which may have no weights): its names, the tensors that the graph does not read, its tokenizer
// and generation files. Second copies of tied tensors are left out: transformers ties them again.
// config.json is `config`, with the type of the weights where another one was asked for. The
// weights are model.safetensors, or shards and their index. All files are on the disk before the
// first takes its place, so that a full disk leaves an older model as it was; weight files of that
// model which are in the way then go. Returns the names of the weight files. Throws FileError, or
// UsageError for another type and for a weight that f16 cannot hold.
std::vector<std::string> save_model(const std::string& folder, const std::string& from, Json config,
                                    const Graph& graph, const ParamStore& store,
                                    const SaveOptions& options = {});

// Says in a config.json how many labels a head has, and their names where they are known.
void name_labels(Json& config, int64_t labels, const std::vector<std::string>& names = {});

}  // namespace graft
