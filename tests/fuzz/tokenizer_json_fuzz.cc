// A tokenizer.json: what is accepted can encode.
#include "tests/fuzz/encoding.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  return fuzz::read_or_refuse([&] {
    const auto t = parse_tokenizer_json(fuzz::text_of(data, size), "FILE");
    fuzz::encode_all(*t, "[CLS] Ab \xC3\xA9tat, 7 x\xE4\xB8\xAD##b [SEP]", 5);
  });
}
