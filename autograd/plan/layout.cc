#include "autograd/plan/layout.h"

#include <algorithm>
#include <functional>

#include "core/random.h"

namespace graft {
namespace {

// The larger, the earlier a buffer is given its place.
using Key = std::function<double(int32_t)>;

bool meet(const std::vector<Program::Life>& a, const std::vector<Program::Life>& b) {
  for (size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    if (a[i].last < b[k].first) {
      ++i;
    } else if (b[k].last < a[i].first) {
      ++k;
    } else {
      return true;
    }
  }
  return false;
}

// The buffers of the arena, with their lives.
std::vector<int32_t> find_lives(Program& p) {
  std::vector<int32_t> mine;
  std::vector<bool> alive(p.buffers.size(), false);
  for (size_t s = 0; s < p.steps.size(); ++s) {
    const Program::Step& step = p.steps[s];
    const auto at = static_cast<int32_t>(s);
    const auto start = [&](int32_t b) {
      const auto i = static_cast<size_t>(b);
      if (b < 0 || alive[i] || !in_arena(p.buffers[i])) return;
      if (p.buffers[i].lives.empty()) mine.push_back(b);
      p.buffers[i].lives.push_back({at, at});
      alive[i] = true;
    };
    if (step.action == Program::Action::run || step.action == Program::Action::recompute) {
      for (int32_t b : p.place[static_cast<size_t>(step.node)]) start(b);
      start(p.workspace[static_cast<size_t>(step.node)]);
    } else if (step.action == Program::Action::free) {
      p.buffers[static_cast<size_t>(step.buffer)].lives.back().last = at;
      alive[static_cast<size_t>(step.buffer)] = false;
    }
  }
  return mine;
}

// Each buffer in turn at the lowest place that is free during its life, the largest key first.
std::vector<size_t> offsets_in_order(const Program& p, const std::vector<int32_t>& buffers,
                                     const Key& key, size_t& top) {
  std::vector<std::pair<double, int32_t>> sorted;
  for (int32_t id : buffers) sorted.emplace_back(-key(id), id);
  std::ranges::sort(sorted);
  std::vector<size_t> offsets(p.buffers.size(), 0);
  std::vector<int32_t> placed;  // by offset
  for (const auto& [rank, id] : sorted) {
    const Program::Buffer& b = p.buffers[static_cast<size_t>(id)];
    size_t offset = 0;
    for (int32_t other : placed) {
      const Program::Buffer& o = p.buffers[static_cast<size_t>(other)];
      const size_t low = offsets[static_cast<size_t>(other)];
      if (!meet(o.lives, b.lives)) continue;
      if (low >= offset + b.bytes) break;
      offset = std::max(offset, low + o.bytes);
    }
    offsets[static_cast<size_t>(id)] = offset;
    const auto where = std::ranges::upper_bound(
        placed, offset, {}, [&](int32_t o) { return offsets[static_cast<size_t>(o)]; });
    placed.insert(where, id);
    top = std::max(top, offset + b.bytes);
  }
  return offsets;
}

}  // namespace

bool in_arena(const Program::Buffer& b) {
  return b.kind == Program::Kind::arena || b.kind == Program::Kind::workspace;
}

// Buffers in several orders, each at the lowest place that is free while it is alive; the best
// order wins.
void lay_out(Program& p, const std::vector<bool>& to_the_end) {
  const std::vector<int32_t> mine = find_lives(p);
  const std::vector<size_t> timeline = memory_timeline(p);
  for (size_t bytes : timeline) p.live_bytes = std::max(p.live_bytes, bytes);

  // Orders by size, life and both; then sizes shaken a little, while the result is not close to the
  // bound. All of it deterministic.
  auto bytes_of = [&](int32_t id) {
    return static_cast<double>(p.buffers[static_cast<size_t>(id)].bytes);
  };
  auto life_of = [&](int32_t id) {
    int32_t steps = 0;
    for (const Program::Life& life : p.buffers[static_cast<size_t>(id)].lives)
      steps += life.last - life.first;
    return static_cast<double>(steps);
  };
  std::vector<Key> keys = {
      bytes_of, life_of, [&](int32_t id) { return bytes_of(id) * life_of(id); },
      [&](int32_t id) {
        return -static_cast<double>(p.buffers[static_cast<size_t>(id)].lives[0].first);
      }};
  // What lives to the end first, at the bottom; the rest fits into the time before each of them
  // begins.
  auto pinned = [&](int32_t id) { return to_the_end[static_cast<size_t>(id)] ? 1e15 : 0.0; };
  keys.push_back([&](int32_t id) { return pinned(id) + bytes_of(id); });
  keys.push_back(
      [&](int32_t id) { return pinned(id) > 0 ? pinned(id) + life_of(id) : bytes_of(id); });
  keys.push_back(
      [&](int32_t id) { return pinned(id) > 0 ? pinned(id) - life_of(id) : bytes_of(id); });
  constexpr uint64_t kShakes = 48;
  for (uint64_t shake = 1; shake <= kShakes; ++shake) {
    keys.push_back([&, shake](int32_t id) {
      return (shake % 2 == 0 ? pinned(id) : 0) +
             bytes_of(id) * (0.6 + 0.8 * static_cast<double>(RandomStream(shake, 0).uniform(
                                             static_cast<uint64_t>(id))));
    });
  }
  std::vector<size_t> best;
  size_t best_bytes = SIZE_MAX;
  for (const Key& key : keys) {
    size_t top = 0;
    std::vector<size_t> offsets = offsets_in_order(p, mine, key, top);
    if (top < best_bytes) {
      best_bytes = top;
      best = std::move(offsets);
    }
    if (static_cast<double>(best_bytes) <= 1.01 * static_cast<double>(p.live_bytes)) break;
  }
  p.arena_bytes = mine.empty() ? 0 : best_bytes;
  for (int32_t id : mine) p.buffers[static_cast<size_t>(id)].offset = best[static_cast<size_t>(id)];
}

}  // namespace graft
