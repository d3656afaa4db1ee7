// What tokenizer.json, tokenizer_config.json and special_tokens_map.json say about truncation,
// padding and the roles of tokens.
#pragma once

#include <string>

#include "core/json.h"
#include "models/tokenizer/pipeline.h"

namespace graft {

// The fields `truncation` and `padding` of a tokenizer.json, and roles by the usual names of
// tokens.
void read_settings(const Json& j, const std::string& source, Stages& stages);
// The other files of a folder, which count where they say something.
void read_folder_settings(const std::string& folder, Stages& stages);

// The token in the field `key` of one of those files: "[PAD]" or {"content": "[PAD]", ...}. Its
// content is empty where there is none.
AddedToken special_token_field(const Json& j, const char* key, const std::string& source);
struct Role {
  const char* key;  // "pad_token"
  int64_t SpecialTokens::*id;
  std::vector<const char*> usual;  // its usual names
};
const std::vector<Role>& roles();

}  // namespace graft
