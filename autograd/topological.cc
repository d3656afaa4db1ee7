#include "autograd/topological.h"

#include <functional>
#include <queue>

namespace graft {

std::vector<int32_t> Topological::order() {
  std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> ready;
  for (size_t i = 0; i < pending_.size(); ++i) {
    if (pending_[i] == 0) ready.push(static_cast<int32_t>(i));
  }
  std::vector<int32_t> order;
  while (!ready.empty()) {
    order.push_back(ready.top());
    ready.pop();
    for (const int32_t next : after_[static_cast<size_t>(order.back())]) {
      if (--pending_[static_cast<size_t>(next)] == 0) ready.push(next);
    }
  }
  return order;
}

}  // namespace graft
