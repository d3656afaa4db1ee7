// Fields of tokenizer files that are lists, objects and single characters.
#pragma once

#include <string>

#include "core/json.h"
#include "models/tokenizer/unicode.h"

namespace graft {

inline const Json& json_list(const Json& j, const char* key, const std::string& source) {
  const auto it = j.is_object() ? j.find(key) : j.end();
  if (it == j.end() || !it->is_array())
    throw FileError("{}: the field '{}' is missing or not a list", source, key);
  return *it;
}

inline const Json& json_object(const Json& j, const char* key, const std::string& source) {
  const auto it = j.is_object() ? j.find(key) : j.end();
  if (it == j.end() || !it->is_object())
    throw FileError("{}: the field '{}' is missing or not an object", source, key);
  return *it;
}

// A field that is there and not null.
inline const Json* json_optional(const Json& j, const char* key) {
  const auto it = j.is_object() ? j.find(key) : j.end();
  return it == j.end() || it->is_null() ? nullptr : &*it;
}

inline std::string json_character(const Json& j, const char* key, const std::string& source,
                                  const std::string& fallback) {
  auto text = json_field<std::string>(j, key, source, fallback);
  if (text.empty() || code_point(text, 0).bytes != text.size()) {
    throw FileError("{}: the field '{}' should be one character but is '{}'", source, key, text);
  }
  return text;
}

// A short rendering for messages.
inline std::string shown(const Json& j) {
  return j.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

}  // namespace graft
