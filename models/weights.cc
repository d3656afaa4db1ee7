#include "models/weights.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"

namespace graft {
namespace {

bool is_file_of_folder(std::string_view name) {
  using namespace std::literals;
  return name.ends_with(".safetensors") && name.find_first_of("/\\\0"sv) == std::string_view::npos;
}

bool exists(const std::string& path) {
  std::error_code none;
  return std::filesystem::exists(path, none);
}

// Total sizes are often off by what a later version of the writer shares or converts (f64 to f16 at
// most); a number beyond that belongs to another model.
void check_total(double said, const FolderWeights& w) {
  constexpr double kConversions = 4;
  double bytes = 0;
  for (const auto& [name, t] : w.tensors) bytes += static_cast<double>(t.size_bytes());
  if (said >= bytes / kConversions && said <= bytes * kConversions) return;
  throw FileError(
      "{}: total_size is {}, but the tensors take {} bytes; do index and shards belong "
      "together?",
      w.source, said, bytes);
}

FolderWeights open_shards(const std::string& folder, const std::string& index_path) {
  const ShardIndex index = parse_shard_index(read_file(index_path), index_path);
  FolderWeights w{.source = index_path};
  std::map<std::string, std::vector<std::string>> named_in;  // shard -> tensors
  for (const auto& [name, shard] : index.shard_of) named_in[shard].push_back(name);
  for (const auto& [shard, names] : named_in) {
    const std::string path = folder + "/" + shard;
    if (!exists(path)) {
      throw FileError(
          "{}: the shard '{}' with {} tensors ('{}', ...) is not in the folder; fetch it "
          "again",
          index_path, shard, names.size(), names[0]);
    }
    const SafeTensors file = SafeTensors::open(path);
    for (const std::string& name : names) {
      if (!file.contains(name)) {
        throw FileError(
            "{}: tensor '{}' should be in '{}', which does not hold it; do index and "
            "shards belong together?",
            index_path, name, shard);
      }
      w.tensors.emplace(name, file.tensor(name));
      w.file_of.emplace(name, shard);
    }
    for (const auto& [name, t] : file.tensors()) {
      if (const auto it = index.shard_of.find(name);
          it == index.shard_of.end() || it->second != shard) {
        w.unlisted.push_back(name);
      }
    }
  }
  if (index.total_size.has_value()) check_total(*index.total_size, w);
  return w;
}

// Early BERT files name the parameters of layer norm otherwise; transformers reads them, too.
std::string present_name(const std::string& name) {
  for (const auto& [old, now] : {std::pair{"LayerNorm.gamma", "LayerNorm.weight"},
                                 std::pair{"LayerNorm.beta", "LayerNorm.bias"}}) {
    if (name.ends_with(old)) {
      return name.substr(0, name.size() - std::string_view(old).size()) + now;
    }
  }
  return name;
}

// f(prefix with its dot, rest) for the first components of a name.
template <typename F>
void for_each_split(std::string_view name, F f) {
  constexpr int kComponents = 3;  // "model.language_model." has two
  size_t dot = name.find('.');
  for (int i = 0; i < kComponents && dot != std::string_view::npos; ++i) {
    f(name.substr(0, dot + 1), name.substr(dot + 1));
    dot = name.find('.', dot + 1);
  }
}

class Matcher {
 public:
  Matcher(const Graph& graph, const FolderWeights& weights) : weights_(weights) {
    for (const auto& [name, t] : weights.tensors) tensor_named_.emplace(present_name(name), name);
    for (const Param& p : graph.params()) {
      if (p.kind != Param::Kind::state && p.adapter.empty()) params_.push_back(&p);
    }
  }

  NameMatch match() {
    choose_prefix();
    std::set<std::string_view> read;
    for (const Param* p : params_) {
      const std::string* tensor = find(*p);
      if (tensor == nullptr && p->init.kind == Init::Kind::given) fail(*p);
      if (tensor == nullptr) continue;
      match_.tensor_of[p->name] = *tensor;
      read.insert(*tensor);
    }
    for (const auto& [name, t] : weights_.tensors) {
      if (!read.contains(name)) match_.unread.push_back(name);
    }
    return std::move(match_);
  }

 private:
  using Rename = NameMatch::Rename;

  // The prefix under which most of the needed parameters are found, if that is more than are found
  // as they are: a single tensor of a like name in another part of the file proves nothing.
  void choose_prefix() {
    std::map<std::pair<Rename, std::string>, size_t> served;
    std::set<std::string_view> open;  // needed and not there under their own name
    size_t direct = 0;
    for (const Param* p : params_) {
      if (p->init.kind != Init::Kind::given) continue;
      if (tensor_named_.contains(p->name)) {
        ++direct;
        continue;
      }
      open.insert(p->name);
      for_each_split(p->name, [&](std::string_view prefix, std::string_view rest) {
        if (tensor_named_.contains(rest)) ++served[{Rename::graph_has_prefix, std::string(prefix)}];
      });
    }
    if (open.empty()) return;
    for (const auto& [name, tensor] : tensor_named_) {
      for_each_split(name, [&](std::string_view prefix, std::string_view rest) {
        if (open.contains(rest)) ++served[{Rename::file_has_prefix, std::string(prefix)}];
      });
    }
    size_t most = direct;
    for (const auto& [rename, count] : served) {
      if (count > most) {
        most = count;
        match_.rename = rename.first;
        match_.prefix = rename.second;
      } else if (count == most && count == open.size() && match_.rename != Rename::none) {
        throw FileError(
            "{}: the model's parameters are there both below '{}' and below '{}'; which model is "
            "meant? Keep one of them in the file",
            weights_.source, match_.prefix, rename.second);
      }
    }
  }

  // A file may hold a tied weight under the name of any of its layers.
  const std::string* find(const Param& p) const {
    const std::string* tensor = find(p.name);
    for (size_t i = 0; i < p.aliases.size() && tensor == nullptr; ++i) tensor = find(p.aliases[i]);
    return tensor;
  }

  const std::string* find(const std::string& name) const {
    auto it = tensor_named_.find(name);
    if (it == tensor_named_.end() && match_.rename == Rename::file_has_prefix) {
      it = tensor_named_.find(match_.prefix + name);
    } else if (it == tensor_named_.end() && match_.rename == Rename::graph_has_prefix &&
               name.starts_with(match_.prefix)) {
      it = tensor_named_.find(name.substr(match_.prefix.size()));
    }
    return it == tensor_named_.end() ? nullptr : &it->second;
  }

  [[noreturn]] void fail(const Param& p) const {
    const std::string where = match_.rename == Rename::file_has_prefix
                                  ? fmt::format(" or '{}{}'", match_.prefix, p.name)
                                  : "";
    throw FileError("{}: there is no tensor '{}'{}, which the model needs ({})", weights_.source,
                    p.name, where, p.type.str());
  }

  const FolderWeights& weights_;
  std::map<std::string, std::string, std::less<>> tensor_named_;  // present name -> name in file
  std::vector<const Param*> params_;
  NameMatch match_;
};

}  // namespace

ShardIndex parse_shard_index(std::string_view text, const std::string& source) {
  const Json json = parse_json(text, source);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object() || map->empty()) {
    throw FileError(
        "{}: 'weight_map' is missing or not an object that names the file of each tensor", source);
  }
  ShardIndex index;
  for (const auto& [name, shard] : map->items()) {
    if (!shard.is_string() || !is_file_of_folder(shard.get_ref<const std::string&>())) {
      throw FileError(
          "{}: tensor '{}' should be in a .safetensors file of the same folder but is in {}",
          source, name, shard.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80));
    }
    index.shard_of[name] = shard.get<std::string>();
  }
  const auto metadata = json.find("metadata");
  if (metadata == json.end()) return index;
  if (!metadata->is_object()) throw FileError("{}: 'metadata' is not an object", source);
  if (const auto total = metadata->find("total_size"); total != metadata->end()) {
    const double bytes = total->is_number() ? total->get<double>() : -1;
    if (!(bytes >= 0) || !std::isfinite(bytes)) {
      throw FileError("{}: 'total_size' should be a number of bytes but is {}", source,
                      total->dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80));
    }
    index.total_size = bytes;
  }
  return index;
}

bool has_weights(const std::string& folder) {
  return exists(fmt::format("{}/{}", folder, kWeightsFile)) ||
         exists(fmt::format("{}/{}", folder, kShardIndexFile));
}

FolderWeights open_weights(const std::string& folder) {
  const std::string path = fmt::format("{}/{}", folder, kWeightsFile),
                    index = fmt::format("{}/{}", folder, kShardIndexFile);
  if (!exists(path) && exists(index)) return open_shards(folder, index);
  if (!exists(path) && exists(folder + "/pytorch_model.bin")) {
    throw FileError(
        "'{}' holds pytorch_model.bin but no {}: pickled weights are not read; save the "
        "model with safe_serialization",
        folder, kWeightsFile);
  }
  const SafeTensors file = SafeTensors::open(path);
  FolderWeights w{.source = path, .tensors = file.tensors()};
  for (const auto& [name, t] : w.tensors) w.file_of.emplace(name, kWeightsFile);
  return w;
}

NameMatch match_names(const Graph& graph, const FolderWeights& weights) {
  return Matcher(graph, weights).match();
}

NameMatch load_parameters(const std::string& folder, const Graph& graph, ParamStore& store) {
  const FolderWeights weights = open_weights(folder);
  NameMatch match = match_names(graph, weights);
  for (const auto& [name, tensor] : match.tensor_of) {
    if (store.contains(name)) continue;
    const Param& p = graph.param(name);
    const Tensor& t = weights.tensors.at(tensor);
    if (t.shape() == p.type.shape && is_float(t.dtype())) {
      store.set(name, t, p.type.dtype);
    } else if (p.init.kind == Init::Kind::given) {
      throw FileError(
          "{}: tensor '{}' should be {} but is {}{}; do config.json and the weights "
          "belong together?",
          weights.source, tensor, p.type.str(), name_of(t.dtype()), t.shape().str());
    }
  }
  return match;
}

}  // namespace graft
