// Tokens back to text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/json.h"

namespace graft {

class Decoder {
 public:
  virtual ~Decoder() = default;
  // Replaces tokens by pieces of text, which are joined at the end.
  virtual void run(std::vector<std::string>& tokens) const = 0;
};

std::unique_ptr<Decoder> make_wordpiece_decoder(std::string prefix, bool cleanup);
std::unique_ptr<Decoder> make_byte_level_decoder();

// The field `decoder` of a tokenizer.json. `source` names it in errors.
std::unique_ptr<Decoder> read_decoder(const Json& j, const std::string& source);

}  // namespace graft
