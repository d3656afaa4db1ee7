// Text to token ids and back. One interface; the kinds are stages put together as a file says
// (models/tokenizer/).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
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
  std::vector<uint8_t> special;  // 1: it is of no text
};

enum class Side { left, right };

// Which text of a pair loses tokens where both are too long.
enum class TruncationStrategy { longest_first, only_first, only_second };

struct Truncation {
  int64_t max_length = 0;  // what the file says; 0: nothing. encode() takes its limit from the call
  Side side = Side::right;  // where tokens are dropped
  TruncationStrategy strategy = TruncationStrategy::longest_first;
};

struct Padding {
  int64_t length = 0;  // 0: as long as the longest of a batch
  int64_t multiple_of = 0;
  Side side = Side::right;
  int64_t id = 0, type_id = 0;
  std::string token = "[PAD]";
};

struct SpecialTokens {  // ids; -1: there is none
  int64_t pad = -1, bos = -1, eos = -1, unk = -1, cls = -1, sep = -1, mask = -1;
};

// What the files of a tokenizer say besides how it encodes.
struct TokenizerSettings {
  Truncation truncation;
  Padding padding;
  SpecialTokens special;
  int64_t model_max_length = 0;  // positions of the model; 0: not said
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // max_length counts special tokens; 0: no limit. Invalid UTF-8 reads as U+FFFD. All of these may
  // be called from several threads at once.
  virtual Encoding encode(std::string_view text, bool add_special = true,
                          int64_t max_length = 0) const = 0;
  virtual Encoding encode_pair(std::string_view a, std::string_view b,
                               int64_t max_length = 0) const = 0;
  // The texts shared out among threads (core/parallel.h).
  std::vector<Encoding> encode_batch(std::span<const std::string> texts, bool add_special = true,
                                     int64_t max_length = 0) const;
  virtual std::string decode(std::span<const int64_t> ids, bool skip_special = true) const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual int64_t id_of(std::string_view token) const = 0;    // -1: none
  virtual const std::string& token_of(int64_t id) const = 0;  // empty: none
  virtual const TokenizerSettings& settings() const = 0;
  int64_t pad_id() const;  // 0 where no token is for padding
};

// Brings encodings to one length. Returns for each how many of its tokens are not padding.
std::vector<int64_t> pad(std::span<Encoding> batch, const Padding& padding);

// Text of ids that come one by one, as a model generates them. What is given out never changes
// afterwards: it ends where a character is complete, and so does all of it together.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}
  std::string push(int64_t id);  // the text that stands firm since the last call
  std::string finish();          // the rest

 private:
  // A token may read otherwise at the beginning of a text, so that those given out last are decoded
  // once more before it.
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<int64_t> ids_;
  size_t given_ = 0;    // of ids_
  std::string before_;  // the text of those
};

// From a Hugging Face folder: tokenizer.json, or vocab.json and merges.txt, or SentencePiece's
// tokenizer.model or spiece.model, or vocab.txt, with tokenizer_config.json and
// special_tokens_map.json where they are. Throws FileError naming file and field, UsageError for a
// kind of stage that is not known.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder);
// The same for texts in memory; `source` names them in errors. vocab.txt does not say whether
// upper-case letters differ.
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& source);
std::unique_ptr<Tokenizer> parse_vocabulary(std::string_view text, const std::string& source,
                                            bool lowercase = true);

}  // namespace graft
