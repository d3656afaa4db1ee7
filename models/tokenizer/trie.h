// Strings by their bytes: which of them does a text begin with?
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft {

class Trie {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0, kNone = UINT32_MAX;

  Trie() : Trie(std::vector<std::pair<std::string_view, int32_t>>{}) {}
  // Keys with values >= 0; the last of equal keys counts. Empty keys are left out.
  explicit Trie(std::vector<std::pair<std::string_view, int32_t>> keys);

  Node child(Node n, char c) const {
    const Entry& e = nodes_[n];
    constexpr uint32_t kFew = 8;  // as a rule there are fewer
    if (e.last - e.first > kFew) {
      const char* first = labels_.data() + e.first;
      const void* at = std::memchr(first, c, e.last - e.first);
      return at == nullptr ? kNone
                           : e.first + static_cast<Node>(static_cast<const char*>(at) - first);
    }
    for (uint32_t k = e.first; k < e.last; ++k) {
      if (labels_[k] == c) return k;
    }
    return kNone;
  }
  Node start(char c) const { return roots_[static_cast<unsigned char>(c)]; }  // child of the root
  int32_t value(Node n) const { return nodes_[n].value; }  // -1: no key ends here
  Node walk(std::string_view key) const;
  size_t longest(std::string_view text) const;  // bytes of the longest key it begins with; 0: none

 private:
  struct Entry {
    uint32_t first = 0, last = 0;  // its children: nodes side by side
    int32_t value = -1;
  };
  std::vector<Entry> nodes_;
  std::vector<char> labels_;  // of the way into a node
  std::vector<Node> roots_;
};

}  // namespace graft
