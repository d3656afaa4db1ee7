#include "apps/adapted_model.h"

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
  // Virtual tokens stand before a text: where it goes on, they are in the cache.
  if (options.cache.use != CacheOptions::Use::extend) options.length += front_.virtual_tokens;
  options.head = head_;
  options.labels = labels_;
  return build_model(config_, options);
}

peft::Adapted AdaptedModel::build(const ModelOptions& options) const {
  const bool in_cache = front_.virtual_tokens > 0 && options.cache.use == CacheOptions::Use::extend;
  if (adapter_.method == nullptr || in_cache) return {.graph = base(options)};
  return peft::apply(base(options), *adapter_.method, adapter_.config,
                     {.model = config_.model_type});
}

int64_t AdaptedModel::max_length() const {
  return longest_row(config_) - front_.virtual_tokens - front_.positions;
}

}  // namespace graft
