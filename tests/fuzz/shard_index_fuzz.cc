// The index of a sharded model: what is accepted names files of the folder, nothing outside.
#include "models/weights.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  return fuzz::read_or_refuse([&] {
    const ShardIndex index = parse_shard_index(fuzz::text_of(data, size), "FILE");
    fuzz::expect(!index.shard_of.empty(), "an index names tensors");
    for (const auto& [name, shard] : index.shard_of) {
      fuzz::expect(shard.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos,
                   "a shard is a file of the folder");
      fuzz::expect(shard.size() > 1 && shard != "..", "a shard is not a folder");
    }
    fuzz::expect(index.total_size.value_or(0) >= 0, "a size is not negative");
  });
}
