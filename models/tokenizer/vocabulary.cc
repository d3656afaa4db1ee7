#include "models/tokenizer/vocabulary.h"

#include "core/error.h"

namespace graft {

void Vocabulary::add(const std::string& token, int64_t id, size_t entries,
                     const std::string& source) {
  const auto most = static_cast<int64_t>(2 * entries + 65536);
  if (id < 0 || id >= most) {
    throw FileError("{}: token '{}' has the id {}; with {} tokens expected 0 to {}", source, token,
                    id, entries, most - 1);
  }
  const auto at = static_cast<size_t>(id);
  if (at >= tokens_.size()) tokens_.resize(at + 1);
  if (!tokens_[at].empty() && tokens_[at] != token) {
    throw FileError("{}: the id {} belongs to both '{}' and '{}'", source, id, tokens_[at], token);
  }
  const auto [it, fresh] = ids_.try_emplace(token, static_cast<int32_t>(id));
  if (!fresh && it->second != id)
    throw FileError("{}: token '{}' has two ids, {} and {}", source, token, it->second, id);
  tokens_[at] = token;
}

int32_t Vocabulary::append(const std::string& token) {
  const auto id = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  ids_.insert_or_assign(token, id);
  return id;
}

void Vocabulary::reserve(size_t n) {
  ids_.reserve(n);
  tokens_.reserve(n);
}

int32_t Vocabulary::required(const std::string& token, const std::string& source) const {
  const int32_t id = id_of(token);
  if (id < 0) throw FileError("{}: the vocabulary has no token '{}'", source, token);
  return id;
}

Vocabulary read_vocabulary(const Json& j, const std::string& source) {
  Vocabulary v;
  v.reserve(j.size());
  for (const auto& [token, id] : j.items()) {
    if (!detail::json_fits<int64_t>(id))
      throw FileError("{}: the id of '{}' is not an integer", source, token);
    v.add(token, id.get<int64_t>(), j.size(), source);
  }
  return v;
}

}  // namespace graft
