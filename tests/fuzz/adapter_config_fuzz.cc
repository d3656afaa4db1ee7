// An adapter_config.json, the rewrite that it asks for, and the start of its parameters.
#include <algorithm>

#include "models/model.h"
#include "peft/adapter_files.h"
#include "tests/fuzz/fuzz.h"

namespace {

graft::Graph small_encoder() {
  const graft::ModelConfig config = graft::parse_config(
      R"({"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 16, "vocab_size": 20, "max_position_embeddings": 64,
          "type_vocab_size": 2})",
      "a small model");
  return graft::build_model(config, {.length = 4, .head = graft::Head::mean_pooled, .labels = 2});
}

graft::ParamStore some_weights(const graft::Graph& graph) {
  graft::ParamStore store;
  for (const graft::Param& p : graph.params())
    store.set(p.name, graft::draw(graft::Init::normal(1), p.type, 1, p.name));
  return store;
}

bool is_small(const graft::Graph& graph) {
  constexpr int64_t kFew = 1 << 16;
  int64_t elements = 0;
  for (const graft::Param& p : graph.params()) elements += std::min(p.type.shape.elements(), kFew);
  return elements < kFew;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  static const Graph base = small_encoder();
  static const ParamStore weights = some_weights(base);
  return fuzz::read_or_refuse([&] {
    const auto config = peft::parse_adapter_config(fuzz::text_of(data, size), "FILE");
    const auto adapted = peft::apply(base, *config.method, config.config);
    if (!is_small(adapted.graph)) return;
    ParamStore store = weights;
    peft::initialize(adapted, store, 1);
  });
}
