#include "models/config.h"

#include <charconv>
#include <filesystem>
#include <optional>

#include "core/atomic_file.h"
#include "core/error.h"

namespace graft {
namespace {

// Far above any model; products of two sizes still fit.
constexpr int64_t kMostChannels = int64_t{1} << 24, kMostLayers = 10000, kMostLabels = 1'000'000;

int64_t in_range(const Json& j, const char* key, const std::string& file, int64_t least,
                 int64_t most, std::optional<int64_t> fallback = {}) {
  const auto v =
      fallback ? json_field<int64_t>(j, key, file, *fallback) : json_field<int64_t>(j, key, file);
  if (v < least || v > most)
    throw FileError("{}: the field '{}' should be {} to {} but is {}", file, key, least, most, v);
  return v;
}

int64_t size(const Json& j, const char* key, const std::string& file) {
  return in_range(j, key, file, 1, kMostChannels);
}

// {"0": "NEGATIVE", "1": "POSITIVE"}
std::vector<std::string> labels_by_id(const Json& names, const std::string& file) {
  std::vector<std::optional<std::string>> found(names.size());
  for (const auto& [key, value] : names.items()) {
    size_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id >= found.size() || found[id] ||
        !value.is_string()) {
      throw FileError("{}: id2label has the entry '{}'; expected one name for each of 0 to {}",
                      file, key, found.size() - 1);
    }
    found[id] = value.get<std::string>();
  }
  std::vector<std::string> labels;
  for (auto& label : found) labels.push_back(std::move(*label));
  return labels;
}

std::vector<std::string> labels_of(const Json& j, const std::string& file) {
  std::vector<std::string> labels;
  if (const auto it = j.find("id2label"); it != j.end() && it->is_object()) {
    labels = labels_by_id(*it, file);
    const auto n = json_field<int64_t>(j, "num_labels", file, static_cast<int64_t>(labels.size()));
    if (n != static_cast<int64_t>(labels.size())) {
      throw FileError("{}: num_labels is {}, but id2label names {}", file, n, labels.size());
    }
    return labels;
  }
  for (int64_t i = 0, n = in_range(j, "num_labels", file, 0, kMostLabels, 2); i < n; ++i) {
    labels.push_back(fmt::format("LABEL_{}", i));
  }
  return labels;
}

}  // namespace

ModelConfig parse_config(std::string_view text, const std::string& file) {
  const Json j = parse_json(text, file);
  ModelConfig c;
  c.raw = j;
  c.model_type = json_field<std::string>(j, "model_type", file);
  const auto architectures = json_field<std::vector<std::string>>(j, "architectures", file, {});
  if (!architectures.empty()) c.architecture = architectures[0];
  const bool distil = c.model_type == "distilbert";
  if (c.model_type != "bert" && c.model_type != "roberta" && !distil) {
    throw UsageError("{}: the model type '{}' is not known; known: bert, roberta, distilbert", file,
                     c.model_type);
  }
  const char* const hidden = distil ? "dim" : "hidden_size";
  const char* const heads = distil ? "n_heads" : "num_attention_heads";
  c.hidden = size(j, hidden, file);
  c.layers = in_range(j, distil ? "n_layers" : "num_hidden_layers", file, 1, kMostLayers);
  c.heads = size(j, heads, file);
  c.intermediate = size(j, distil ? "hidden_dim" : "intermediate_size", file);
  c.vocab = size(j, "vocab_size", file);
  c.max_positions = size(j, "max_position_embeddings", file);
  c.token_types = distil ? 0 : size(j, "type_vocab_size", file);
  c.activation = json_field<std::string>(j, distil ? "activation" : "hidden_act", file, "gelu");
  c.norm_eps = json_field<double>(j, "layer_norm_eps", file, 1e-12);
  if (!(c.norm_eps > 0 && c.norm_eps < 1)) {
    throw FileError("{}: the field 'layer_norm_eps' should be between 0 and 1 but is {}", file,
                    c.norm_eps);
  }
  c.pad_id = in_range(j, "pad_token_id", file, 0, c.vocab - 1, c.model_type == "roberta" ? 1 : 0);
  if (c.hidden % c.heads != 0) {
    throw FileError("{}: {} {} cannot be split over {} {}", file, hidden, c.hidden, heads, c.heads);
  }
  if (const auto position = json_field<std::string>(j, "position_embedding_type", file, "absolute");
      position != "absolute") {
    throw FileError("{}: the field 'position_embedding_type' should be absolute but is '{}'", file,
                    position);
  }
  if (json_field<bool>(j, "is_decoder", file, false))
    throw FileError("{}: the field 'is_decoder' is true; only encoders are read here", file);
  c.labels = labels_of(j, file);
  return c;
}

ModelConfig load_config(const std::string& path) {
  std::error_code none;
  const bool folder = std::filesystem::is_directory(path, none);
  const std::string file = folder ? path + "/config.json" : path;
  ModelConfig c = parse_config(read_file(file), file);
  if (folder) c.folder = path;
  return c;
}

}  // namespace graft
