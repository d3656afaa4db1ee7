// Numbers in an order in which each stands behind those that it waits for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace graft {

class Topological {
 public:
  explicit Topological(size_t count) : after_(count), pending_(count, 0) {}
  void add(int32_t before, int32_t behind) {
    after_[static_cast<size_t>(before)].push_back(behind);
    ++pending_[static_cast<size_t>(behind)];
  }
  // The smallest number that waits for nothing first: what is in order stays as it is. Those that
  // wait for each other are left out. Call once.
  std::vector<int32_t> order();

 private:
  std::vector<std::vector<int32_t>> after_;
  std::vector<int32_t> pending_;
};

}  // namespace graft
