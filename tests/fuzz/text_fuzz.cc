// Any bytes as a text for fixed tokenizers. The first byte says how much may be kept.
#include "tests/fuzz/encoding.h"

namespace {

using namespace graft;

// Of every kind of model one; the alphabets are small, so that texts of a few bytes meet merges,
// unknown characters and bytes.
std::vector<std::unique_ptr<Tokenizer>> make_tokenizers() {
  std::vector<std::unique_ptr<Tokenizer>> out;
  out.push_back(
      parse_vocabulary("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n##a\n##b\n##bc\n1\n##1\n,\n"
                       "\xE4\xB8\xAD\n##e\ni\n##\xCC\x87\n",
                       "vocabulary"));
  for (const char* json :
       {R"({"added_tokens": [{"id": 9, "content": "<m>", "lstrip": true, "special": true}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true},
            "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ġ": 2, "Ġa": 3, "ab": 4, "Ã": 5},
                      "merges": ["Ġ a", "a b"]}})",
        R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"},
              {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "_"},
            "decoder": {"type": "Metaspace", "replacement": "_"},
            "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
                      "vocab": [["?", 0], ["_a", -1], ["b", -2], ["ab", -2.5], ["<0xC3>", -9]]}})",
        R"({"normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "a": 1}}})"})
    out.push_back(parse_tokenizer_json(json, "JSON"));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizers = make_tokenizers();
  if (size == 0) return 0;
  for (const auto& t : tokenizers)
    fuzz::encode_all(*t, fuzz::text_of(data + 1, size - 1), data[0] % 16);
  return 0;
}
