// JSON of untrusted files: bounded depth, errors with a place, keys in the order of the file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"

namespace graft {

using Json = nlohmann::ordered_json;

// Throws FileError "SOURCE: line L, column C: ..." on anything but one JSON value nested at most 64
// deep, and where an object has a key twice: readers differ in which of the two they believe.
Json parse_json(std::string_view text, std::string_view source);
Json parse_json_file(const std::string& path);
// Indented by two, with a final newline.
std::string json_text(const Json& value);
void write_json_file(const std::string& path, const Json& value);  // json_text, atomically

// Typed access with an error that names the source and the field.
// Types: bool, integers, floats, std::string, and vectors of them; other types are taken as they
// are.
template <typename T>
T json_field(const Json& object, const char* key, std::string_view source);
// The fallback where the field is missing or null.
template <typename T>
T json_field(const Json& object, const char* key, std::string_view source, T fallback);
namespace detail {

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};

template <typename T>
bool json_fits(const Json& v) {
  if constexpr (std::is_same_v<T, bool>)
    return v.is_boolean();
  else if constexpr (std::is_integral_v<T>) {
    if (v.is_number_unsigned()) return std::in_range<T>(v.template get<uint64_t>());
    return v.is_number_integer() && std::in_range<T>(v.template get<int64_t>());
  } else if constexpr (std::is_floating_point_v<T>)
    return v.is_number();
  else if constexpr (std::is_same_v<T, std::string>)
    return v.is_string();
  else if constexpr (IsVector<T>::value) {
    if (!v.is_array()) return false;
    for (const Json& item : v) {
      if (!json_fits<typename T::value_type>(item)) return false;
    }
    return true;
  } else
    return true;
}

template <typename T>
const char* json_kind() {
  if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_integral_v<T>)
    return sizeof(T) == 8 ? "an integer of 64 bits" : "an integer of 32 bits";
  else if constexpr (std::is_floating_point_v<T>)
    return "a number";
  else if constexpr (std::is_same_v<T, std::string>)
    return "a string";
  else
    return "a list";
}

}  // namespace detail

template <typename T>
T json_field(const Json& object, const char* key, std::string_view source) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  if (it == object.end())
    throw FileError("{}: the field '{}' is missing; expected {}", source, key,
                    detail::json_kind<T>());
  if (!detail::json_fits<T>(*it)) {
    throw FileError("{}: the field '{}' should be {} but is {}", source, key,
                    detail::json_kind<T>(),
                    it->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
  }
  return it->template get<T>();
}

template <typename T>
T json_field(const Json& object, const char* key, std::string_view source, T fallback) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  if (it == object.end() || it->is_null()) return fallback;
  return json_field<T>(object, key, source);
}

// A value as a T; UsageError, naming `what` it is, where it is of another kind or out of range.
template <typename T>
T json_as(const Json& value, std::string_view what) {
  if (!detail::json_fits<T>(value)) {
    throw UsageError("{} should be {} but is {}", what, detail::json_kind<T>(),
                     value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
  }
  return value.get<T>();
}

}  // namespace graft
