#include "autograd/plan/packing.h"

#include <algorithm>

#include "core/random.h"

namespace graft {

bool meet(const Program::Buffer& a, const Program::Buffer& b) {
  for (size_t i = 0, k = 0; i < a.lives.size() && k < b.lives.size();) {
    if (a.lives[i].last < b.lives[k].first) {
      ++i;
    } else if (b.lives[k].last < a.lives[i].first) {
      ++k;
    } else {
      return true;
    }
  }
  return false;
}

Packing::Packing(const std::vector<const Program::Buffer*>& buffers)
    : meets_(buffers.size() * buffers.size()), offsets_(buffers.size()) {
  const size_t count = buffers.size();
  std::vector<Program::Life> whole;  // from the first life's beginning to the last one's end
  for (const Program::Buffer* b : buffers) {
    bytes_.push_back(b->bytes);
    whole.push_back({b->lives.front().first, b->lives.back().last});
  }
  for (size_t i = 0; i < count; ++i) {
    const Program::Buffer& a = *buffers[i];
    size_t sooner = 0, later = 0;
    for (size_t k = 0; k < count; ++k) {
      if (whole[k].last < whole[i].first || whole[i].last < whole[k].first) continue;
      const Program::Buffer& b = *buffers[k];
      const bool gaps = a.lives.size() > 1 || b.lives.size() > 1;
      meets_[i * count + k] = !gaps || meet(a, b) ? 1 : 0;
      if (k == i || !b.alive_at(whole[i].first)) continue;
      (whole[k].last < whole[i].last ? sooner : later) += bytes_[k];
    }
    outlives_.push_back(sooner > later);
  }
  work_ = buffers.size() * buffers.size();
}

// SIZE_MAX: there is none under the ceiling.
size_t Packing::place_for(uint32_t i, size_t ceiling, bool from_top) {
  const size_t bytes = bytes_[i];
  const uint8_t* meets = &meets_[i * bytes_.size()];
  size_t offset = 0, highest = SIZE_MAX;
  work_ += placed_.size();
  for (const Placed& p : placed_) {
    if (meets[p.item] == 0) continue;
    if (p.low >= offset + bytes) {
      if (!from_top) return offset;
      highest = p.low - bytes;
    }
    offset = std::max(offset, p.high);
  }
  if (offset + bytes <= ceiling) return from_top ? ceiling - bytes : offset;
  return highest;
}

bool Packing::search(Attempt a) {
  const RandomStream random(1, 0);
  placed_.clear();
  std::vector<size_t> rank(bytes_.size()), in_the_way;
  for (size_t k = 0; k < a.order.size();) {
    const uint32_t i = a.order[k];
    const size_t offset = place_for(i, a.ceiling, a.two_sided && outlives_[i]);
    if (offset != SIZE_MAX) {
      offsets_[i] = offset;
      rank[i] = k++;
      const Placed placed{offset, offset + bytes_[i], i};
      placed_.insert(std::ranges::upper_bound(placed_, offset, {}, &Placed::low), placed);
      continue;
    }
    if (--a.conflicts < 0) return false;
    in_the_way.clear();
    for (const Placed& p : placed_) {
      if (meets(i, p.item)) in_the_way.push_back(rank[p.item]);
    }
    if (in_the_way.empty()) return false;  // it alone is larger
    std::ranges::sort(in_the_way, std::ranges::greater());
    // One of the last few as often as any: then little is placed anew.
    constexpr size_t kFew = 4;
    const bool near = random.bits(draws_++) % 2 == 0;
    const size_t choices = near ? std::min(kFew, in_the_way.size()) : in_the_way.size();
    const size_t to = in_the_way[random.bits(draws_++) % choices];
    std::erase_if(placed_, [&](const Placed& p) { return rank[p.item] >= to; });
    const auto at = [&](size_t p) { return a.order.begin() + static_cast<std::ptrdiff_t>(p); };
    std::rotate(at(to), at(k), at(k) + 1);
    k = to;
  }
  return true;
}

}  // namespace graft
