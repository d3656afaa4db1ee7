#include "models/tokenizer/trie.h"

#include <algorithm>

namespace graft {

Trie::Trie(std::vector<std::pair<std::string_view, int32_t>> keys) : roots_(256, kNone) {
  std::stable_sort(keys.begin(), keys.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  nodes_.emplace_back();
  labels_.push_back('\0');
  struct Open {  // a node whose children are still to come: the keys that go through it
    Node node;
    size_t begin, end, depth;
  };
  std::vector<Open> queue{{kRoot, 0, keys.size(), 0}};
  for (size_t q = 0; q < queue.size(); ++q) {
    Open o = queue[q];
    for (; o.begin < o.end && keys[o.begin].first.size() == o.depth; ++o.begin) {
      if (o.depth > 0) nodes_[o.node].value = keys[o.begin].second;
    }
    nodes_[o.node].first = static_cast<uint32_t>(nodes_.size());
    while (o.begin < o.end) {
      const char c = keys[o.begin].first[o.depth];
      size_t end = o.begin;
      while (end < o.end && keys[end].first[o.depth] == c) ++end;
      queue.push_back({static_cast<Node>(nodes_.size()), o.begin, end, o.depth + 1});
      nodes_.emplace_back();
      labels_.push_back(c);
      o.begin = end;
    }
    nodes_[o.node].last = static_cast<uint32_t>(nodes_.size());
  }
  for (Node k = nodes_[kRoot].first; k < nodes_[kRoot].last; ++k)
    roots_[static_cast<unsigned char>(labels_[k])] = k;
}

Trie::Node Trie::walk(std::string_view key) const {
  Node n = kRoot;
  for (const char c : key) {
    n = child(n, c);
    if (n == kNone) break;
  }
  return n;
}

size_t Trie::longest(std::string_view text) const {
  size_t bytes = 0;
  Node n = text.empty() ? kNone : start(text[0]);
  for (size_t i = 1; n != kNone; ++i) {
    if (value(n) >= 0) bytes = i;
    if (i == text.size()) break;
    n = child(n, text[i]);
  }
  return bytes;
}

}  // namespace graft
