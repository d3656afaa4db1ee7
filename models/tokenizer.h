// Text to token ids and back. One interface; the kinds differ in how they normalize and split.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft {

struct Encoding {
  std::vector<int64_t> ids;
  std::vector<std::string> tokens;
  std::vector<std::pair<int64_t, int64_t>>
      offsets;  // [begin, end) in Unicode code points of the text the token is of
  std::vector<int64_t> type_ids;
  std::vector<uint8_t> special;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // max_length counts special tokens; 0: no limit. Pairs lose tokens from the longer text first.
  // Invalid UTF-8 reads as U+FFFD.
  virtual Encoding encode(std::string_view text, bool add_special = true,
                          int64_t max_length = 0) const = 0;
  virtual Encoding encode_pair(std::string_view a, std::string_view b,
                               int64_t max_length = 0) const = 0;
  virtual std::string decode(const std::vector<int64_t>& ids, bool skip_special = true) const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual int64_t pad_id() const = 0;
};

// From tokenizer.json of a Hugging Face folder, or vocab.txt where there is none. Throws FileError
// naming file and field, UsageError for a kind of tokenizer that is not known.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder);
// The same for texts in memory; `source` names them in errors. vocab.txt does not say whether
// upper-case letters differ.
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& source);
std::unique_ptr<Tokenizer> parse_vocabulary(std::string_view text, const std::string& source,
                                            bool lowercase = true);

}  // namespace graft
