// Reads the fields of a config.json: each with its range, each error with the field's name. Notes
// which fields were read, so that the others can be listed.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"

namespace graft {

class ConfigReader {
 public:
  ConfigReader(const Json& fields, const std::string& file) : fields_(fields), file_(file) {}

  const std::string& file() const { return file_; }
  bool has(const char* key) const;   // present and not null
  const Json& raw(const char* key);  // throws FileError where it is missing

  // Of all of these: without a fallback the field must be there.
  int64_t integer(const char* key, int64_t least, int64_t most,
                  std::optional<int64_t> fallback = {});
  // A number of channels, heads, rows: 1 to 2^24.
  int64_t size(const char* key, std::optional<int64_t> fallback = {});
  // Finite, least < value < most.
  double real(const char* key, double least, double most, std::optional<double> fallback = {});
  // Above 0, at most 1.
  double share(const char* key, double fallback);
  // At least 0, below 1: of dropout.
  double rate(const char* key, double fallback);
  bool flag(const char* key, bool fallback);
  std::string text(const char* key, std::optional<std::string> fallback = {});
  std::vector<std::string> texts(const char* key);  // empty where it is missing
  // A token of the vocabulary; -1 where it is missing or null.
  int64_t token(const char* key, int64_t vocab, int64_t fallback = -1);
  std::vector<int64_t> tokens(const char* key, int64_t vocab);  // one or a list

  // Refuses any other value than the one that graft computes.
  void only(const char* key, const Json& value);
  // Says that a field does not matter for the graph.
  void ignore(std::initializer_list<const char*> keys);

  // The fields that were neither read nor ignored, in the order of the file.
  std::vector<std::string> unread() const;

  [[noreturn]] void fail(const char* key, const std::string& should) const;

 private:
  const Json* find(const char* key) const;

  const Json& fields_;
  const std::string& file_;
  mutable std::set<std::string, std::less<>> read_;
};

}  // namespace graft
