#include "models/config.h"

#include <filesystem>

#include "core/error.h"

namespace graft {
namespace {

int64_t positive(const Json& j, const char* key, const std::string& file) {
  const auto v = json_field<int64_t>(j, key, file);
  if (v < 1 || v > (int64_t{1} << 40))
    throw FileError("{}: the field '{}' should be positive but is {}", file, key, v);
  return v;
}

}  // namespace

ModelConfig load_config(const std::string& path) {
  const bool folder = std::filesystem::is_directory(path);
  const std::string file = folder ? path + "/config.json" : path;
  const Json j = parse_json_file(file);
  ModelConfig c;
  c.folder = folder ? path : "";
  c.raw = j;
  c.model_type = json_field<std::string>(j, "model_type", file);
  const auto architectures = json_field<std::vector<std::string>>(j, "architectures", file, {});
  if (!architectures.empty()) c.architecture = architectures[0];
  const bool distil = c.model_type == "distilbert";
  if (c.model_type != "bert" && c.model_type != "roberta" && !distil) {
    throw UsageError("{}: the model type '{}' is not known; known: bert, roberta, distilbert", file,
                     c.model_type);
  }
  c.hidden = positive(j, distil ? "dim" : "hidden_size", file);
  c.layers = positive(j, distil ? "n_layers" : "num_hidden_layers", file);
  c.heads = positive(j, distil ? "n_heads" : "num_attention_heads", file);
  c.intermediate = positive(j, distil ? "hidden_dim" : "intermediate_size", file);
  c.vocab = positive(j, "vocab_size", file);
  c.max_positions = positive(j, "max_position_embeddings", file);
  c.token_types = distil ? 0 : positive(j, "type_vocab_size", file);
  c.activation = json_field<std::string>(j, distil ? "activation" : "hidden_act", file, "gelu");
  c.norm_eps = json_field<double>(j, "layer_norm_eps", file, 1e-12);
  c.pad_id = json_field<int64_t>(j, "pad_token_id", file, c.model_type == "roberta" ? 1 : 0);
  if (c.hidden % c.heads != 0) {
    throw FileError("{}: {} channels cannot be split over {} heads", file, c.hidden, c.heads);
  }
  if (const auto position = json_field<std::string>(j, "position_embedding_type", file, "absolute");
      position != "absolute") {
    throw FileError("{}: the field 'position_embedding_type' should be absolute but is '{}'", file,
                    position);
  }
  if (const auto it = j.find("id2label"); it != j.end() && it->is_object()) {
    c.labels.resize(it->size());
    for (const auto& [key, value] : it->items()) {
      size_t id = c.labels.size();
      try {
        id = std::stoul(key);
      } catch (const std::exception&) {
      }
      if (id >= c.labels.size() || !value.is_string())
        throw FileError("{}: id2label has the entry '{}' out of order", file, key);
      c.labels[id] = value.get<std::string>();
    }
  } else {
    for (int64_t i = 0, n = json_field<int64_t>(j, "num_labels", file, 2); i < n && i < 100000;
         ++i) {
      c.labels.push_back(fmt::format("LABEL_{}", i));
    }
  }
  return c;
}

}  // namespace graft
