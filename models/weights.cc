#include "models/weights.h"

#include "core/error.h"
#include "core/safetensors.h"

namespace graft {

void load_parameters(const std::string& folder, const Graph& graph, ParamStore& store) {
  const SafeTensors file = SafeTensors::open(folder + "/model.safetensors");
  auto find = [&](const std::string& name) -> const Tensor* {
    const size_t dot = name.find('.');
    const std::string candidates[] = {name, "bert." + name, "roberta." + name, "distilbert." + name,
                                      dot == std::string::npos ? name : name.substr(dot + 1)};
    for (const std::string& n : candidates) {
      if (file.contains(n)) return &file.tensor(n);
    }
    return nullptr;
  };
  for (const Param& p : graph.params()) {
    if (p.kind == Param::Kind::state || !p.adapter.empty() || store.contains(p.name)) continue;
    const Tensor* t = find(p.name);
    if (t == nullptr) {
      if (p.init.kind != Init::Kind::given) continue;
      throw FileError("{}: there is no tensor '{}', which the model needs ({})", file.source(),
                      p.name, p.type.str());
    }
    const bool fits = t->shape() == p.type.shape && is_float(t->dtype());
    if (!fits && p.init.kind != Init::Kind::given) continue;
    if (!fits) {
      throw FileError(
          "{}: tensor '{}' should be {} but is {}{}; do config.json and the weights belong "
          "together?",
          file.source(), p.name, p.type.str(), name_of(t->dtype()), t->shape().str());
    }
    store.set(p.name, t->cast(p.type.dtype));
  }
}

}  // namespace graft
