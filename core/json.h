// JSON of untrusted files: bounded depth, errors with a place, keys in the order of the file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace graft {

using Json = nlohmann::ordered_json;

// Throws FileError "SOURCE: line L, column C: ..." on anything but one JSON value nested at most 64 deep.
Json parse_json(std::string_view text, std::string_view source);
Json parse_json_file(const std::string& path);
// Indented by two, with a final newline, written atomically.
void write_json_file(const std::string& path, const Json& value);

// Typed access with an error that names the source and the field.
template <typename T>
T json_field(const Json& object, const char* key, std::string_view source);
template <typename T>
T json_field(const Json& object, const char* key, std::string_view source, T fallback);

}  // namespace graft

#include "core/json_field-inl.h"
