#include "models/config_reader.h"

#include <cmath>

#include "core/error.h"

namespace graft {
namespace {

// Far above any model; products of two sizes still fit.
constexpr int64_t kMostChannels = int64_t{1} << 24;

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

}  // namespace

const Json* ConfigReader::find(const char* key) const {
  read_.insert(key);
  const auto it = fields_.find(key);
  return it == fields_.end() || it->is_null() ? nullptr : &*it;
}

bool ConfigReader::has(const char* key) const { return find(key) != nullptr; }

void ConfigReader::fail(const char* key, const std::string& should) const {
  const auto it = fields_.find(key);
  throw FileError("{}: the field '{}' should be {} but is {}", file_, key, should,
                  it == fields_.end() ? "missing" : shown(*it));
}

const Json& ConfigReader::raw(const char* key) {
  const Json* found = find(key);
  if (found == nullptr) throw FileError("{}: the field '{}' is missing", file_, key);
  return *found;
}

int64_t ConfigReader::integer(const char* key, int64_t least, int64_t most,
                              std::optional<int64_t> fallback) {
  read_.insert(key);
  const auto v = fallback ? json_field<int64_t>(fields_, key, file_, *fallback)
                          : json_field<int64_t>(fields_, key, file_);
  if (v < least || v > most) fail(key, fmt::format("{} to {}", least, most));
  return v;
}

int64_t ConfigReader::size(const char* key, std::optional<int64_t> fallback) {
  return integer(key, 1, kMostChannels, fallback);
}

double ConfigReader::real(const char* key, double least, double most,
                          std::optional<double> fallback) {
  read_.insert(key);
  const auto v = fallback ? json_field<double>(fields_, key, file_, *fallback)
                          : json_field<double>(fields_, key, file_);
  if (!(v > least && v < most)) fail(key, fmt::format("between {} and {}", least, most));
  return v;
}

double ConfigReader::share(const char* key, double fallback) {
  read_.insert(key);
  const auto v = json_field<double>(fields_, key, file_, fallback);
  if (!(v > 0 && v <= 1)) fail(key, "above 0 and at most 1");
  return v;
}

double ConfigReader::rate(const char* key, double fallback) {
  read_.insert(key);
  const auto v = json_field<double>(fields_, key, file_, fallback);
  if (!(v >= 0 && v < 1)) fail(key, "at least 0 and below 1");
  return v;
}

bool ConfigReader::flag(const char* key, bool fallback) {
  read_.insert(key);
  return json_field<bool>(fields_, key, file_, fallback);
}

std::string ConfigReader::text(const char* key, std::optional<std::string> fallback) {
  read_.insert(key);
  return fallback ? json_field<std::string>(fields_, key, file_, *fallback)
                  : json_field<std::string>(fields_, key, file_);
}

std::vector<std::string> ConfigReader::texts(const char* key) {
  read_.insert(key);
  return json_field<std::vector<std::string>>(fields_, key, file_, {});
}

int64_t ConfigReader::token(const char* key, int64_t vocab, int64_t fallback) {
  return has(key) ? integer(key, 0, vocab - 1) : fallback;
}

std::vector<int64_t> ConfigReader::tokens(const char* key, int64_t vocab) {
  const Json* found = find(key);
  if (found == nullptr) return {};
  if (!found->is_array()) return {integer(key, 0, vocab - 1)};
  auto ids = json_field<std::vector<int64_t>>(fields_, key, file_);
  for (const int64_t id : ids) {
    if (id < 0 || id >= vocab) fail(key, fmt::format("tokens of 0 to {}", vocab - 1));
  }
  return ids;
}

void ConfigReader::only(const char* key, const Json& value) {
  const Json* found = find(key);
  if (found != nullptr && *found != value) fail(key, shown(value));
}

void ConfigReader::ignore(std::initializer_list<const char*> keys) {
  for (const char* key : keys) read_.insert(key);
}

std::vector<std::string> ConfigReader::unread() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : fields_.items()) {
    if (!read_.contains(key)) names.push_back(key);
  }
  return names;
}

}  // namespace graft
