#include "apps/adapted_model.h"

#include "autograd/passes/cheap_forms.h"
#include "core/safetensors.h"
#include "models/weights.h"

namespace graft {

AdaptedModel::AdaptedModel(const std::string& model, const std::string& adapter, Head head)
    : config_(load_config(model)), head_(head) {
  if (!adapter.empty()) {
    adapter_ = peft::read_adapter_config(adapter);
    const SafeTensors file = SafeTensors::open(adapter + "/adapter_model.safetensors");
    for (const auto& [name, t] : file.tensors()) {
      const bool is_head =
          name.ends_with(".classifier.weight") || name.ends_with(".classifier.out_proj.weight");
      if (is_head && t.shape().rank() == 2) labels_ = t.shape()[0];
    }
    front_ = {peft::virtual_tokens(*adapter_.method, adapter_.config),
              peft::position_shift(*adapter_.method, adapter_.config)};
  }
  const peft::Adapted adapted = build({.length = 8});
  load_parameters(model, adapted.graph, store_);
  peft::initialize(adapted, store_, 0);
  if (!adapter.empty()) peft::load_adapter(adapter, adapter_, adapted.graph, store_);
}

Graph AdaptedModel::base(ModelOptions options) const {
  options.length += front_.virtual_tokens;
  options.head = head_;
  options.labels = labels_;
  return build_model(config_, options);
}

peft::Adapted AdaptedModel::adapted(const Graph& base) const {
  if (adapter_.method == nullptr) return {.graph = base};
  return peft::apply(base, *adapter_.method, adapter_.config, {.model = config_.model_type});
}

peft::Adapted AdaptedModel::build(const ModelOptions& options) const {
  return adapted(base(options));
}

DecodingModel AdaptedModel::decoding() const {
  return {.build = [this](const ModelOptions& options) { return build_model(config_, options); },
          .adapt = [this](const Graph& base) { return cheap_forms(adapted(base).graph); },
          .virtual_tokens = front_.virtual_tokens,
          .first_position = front_.positions};
}

}  // namespace graft
