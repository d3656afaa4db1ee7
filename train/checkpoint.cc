#include "train/checkpoint.h"

#include "core/safetensors.h"

namespace graft {
namespace {

constexpr const char* kParameter = "parameter/";
constexpr const char* kBest = "best/";

}  // namespace

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, t] : checkpoint.parameters) tensors[kParameter + name] = t;
  for (const auto& [name, t] : checkpoint.best) tensors[kBest + name] = t;
  // Numbers are written with all their digits, so what is read back is the same to the last bit.
  save_safetensors(path, tensors,
                   {{"format", "graft checkpoint 1"},
                    {"run", checkpoint.run.dump()},
                    {"progress", checkpoint.progress.dump()}});
}

Checkpoint load_checkpoint(const std::string& path) {
  const SafeTensors file = SafeTensors::open(path);
  const auto& metadata = file.metadata();
  auto part = [&](const char* key) {
    const auto it = metadata.find(key);
    if (it == metadata.end()) throw FileError("{}: this is not a checkpoint of graft", path);
    return parse_json(it->second, path + " (" + key + ")");
  };
  Checkpoint c{part("run"), part("progress"), {}, {}};
  for (const auto& [name, t] : file.tensors()) {
    const std::string n(name);
    if (n.starts_with(kParameter)) c.parameters[n.substr(10)] = t.clone();
    if (n.starts_with(kBest)) c.best[n.substr(5)] = t.clone();
  }
  return c;
}

void expect_same_run(const Json& checkpoint, const Json& present, const std::string& path) {
  for (const auto& [key, value] : present.items()) {
    const Json before = checkpoint.value(key, Json());
    if (before == value) continue;
    throw UsageError(
        "{}: the run to resume had {} = {}, this one has {}; resume with the same options, or "
        "start "
        "anew without --resume",
        path, key, before.dump().substr(0, 200), value.dump().substr(0, 200));
  }
}

}  // namespace graft
