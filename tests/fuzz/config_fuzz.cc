// A model's config.json: what is accepted can be built.
#include "models/model.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  return fuzz::read_or_refuse([&] {
    const ModelConfig config = parse_config(fuzz::text_of(data, size), "FILE");
    constexpr int64_t kFew = 4;  // a graph takes time with the number of layers
    if (config.layers > kFew) return;
    const Graph graph =
        build_model(config, {.batch = 2, .length = 3, .head = head_of(config), .labels = 2});
    fuzz::expect(!graph.outputs().empty(), "a model has outputs");
  });
}
