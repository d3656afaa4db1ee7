// A safetensors file: every tensor lies inside of the file.
#include <memory>
#include <vector>

#include "core/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  // Of exactly this size on the heap, so that a read beyond the end is seen.
  const std::shared_ptr<std::byte[]> bytes(new std::byte[size]);
  if (size > 0) std::memcpy(bytes.get(), data, size);
  return fuzz::read_or_refuse([&] {
    const SafeTensors st = SafeTensors::parse({bytes.get(), size}, bytes, "FILE");
    size_t total = 0;
    for (const auto& [name, t] : st.tensors()) {
      total += t.size_bytes();
      const auto copy = t.clone();
      fuzz::expect(copy.shape() == t.shape(), "a copy has the shape of its tensor");
    }
    fuzz::expect(total < size || st.tensors().empty(), "tensors take no more than the file");
  });
}
