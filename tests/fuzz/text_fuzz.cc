// Any bytes as a text for a fixed tokenizer. The first byte says how much may be kept.
#include "tests/fuzz/encoding.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  static const auto tokenizer = parse_vocabulary(
      "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n##a\n##b\n##bc\n1\n##1\n,\n\xE4\xB8\xAD\n##e\n"
      "i\n##\xCC\x87\n",
      "vocabulary");
  if (size == 0) return 0;
  fuzz::encode_all(*tokenizer, fuzz::text_of(data + 1, size - 1), data[0] % 16);
  return 0;
}
