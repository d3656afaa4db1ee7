// An adapter_config.json, and the rewrite that it asks for.
#include "models/encoder.h"
#include "peft/adapter_files.h"
#include "tests/fuzz/fuzz.h"

namespace {

graft::Graph small_encoder() {
  graft::ModelConfig config;
  config.model_type = "bert";
  config.hidden = 8;
  config.layers = 2;
  config.heads = 2;
  config.intermediate = 16;
  config.vocab = 20;
  config.max_positions = 4096;
  config.token_types = 2;
  return graft::build_encoder(config, {.length = 4, .head = graft::Head::mean_pooled, .labels = 2});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  static const Graph base = small_encoder();
  return fuzz::read_or_refuse([&] {
    const auto config = peft::parse_adapter_config(fuzz::text_of(data, size), "FILE");
    peft::apply(base, *config.method, config.config);
  });
}
