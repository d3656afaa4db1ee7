// A vocab.txt: what is accepted can encode.
#include "tests/fuzz/encoding.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  return fuzz::read_or_refuse([&] {
    const std::string_view text = fuzz::text_of(data, size);
    const auto t = parse_vocabulary(text, "FILE", size % 2 == 0);
    fuzz::encode_all(*t, "[CLS] Ab \xC3\xA9tat, 7 x\xE4\xB8\xAD##b [SEP]", 5);
    fuzz::encode_all(*t, text, 5);
  });
}
