// Tokens and their ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"

namespace graft {

class Vocabulary {
 public:
  // `entries`: how many tokens the file has. Ids may leave gaps, but not so that a small file takes
  // much memory. Throws FileError where a token has two ids or an id two tokens.
  void add(const std::string& token, int64_t id, size_t entries, const std::string& source);
  // The next id. A token that stands there twice has its last id from then on.
  int32_t append(const std::string& token);
  void reserve(size_t n);

  int32_t id_of(std::string_view token) const {  // -1: none
    const auto it = ids_.find(token);
    return it == ids_.end() ? -1 : it->second;
  }
  int32_t required(const std::string& token, const std::string& source) const;
  const std::string& token(int64_t id) const { return tokens_[static_cast<size_t>(id)]; }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  const std::vector<std::string>& tokens() const { return tokens_; }  // by id; empty: a gap

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  std::vector<std::string> tokens_;
};

// {"token": id, ...}
Vocabulary read_vocabulary(const Json& j, const std::string& source);

}  // namespace graft
