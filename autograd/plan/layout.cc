#include "autograd/plan/layout.h"

#include <algorithm>

#include "autograd/plan/packing.h"

namespace graft {

bool in_arena(const Program::Buffer& b) {
  return b.kind == Program::Kind::arena || b.kind == Program::Kind::workspace;
}

size_t aligned_in_arena(size_t bytes) {
  constexpr size_t kAlignment = 64;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

namespace {

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
    if (step.runs()) {
      for (int32_t b : p.place[static_cast<size_t>(step.node)]) start(b);
      start(p.workspace[static_cast<size_t>(step.node)]);
    } else if (step.action == Program::Action::free) {
      p.buffers[static_cast<size_t>(step.buffer)].lives.back().last = at;
      alive[static_cast<size_t>(step.buffer)] = false;
    }
  }
  return mine;
}

// Buffers that have their places, put there one after another.
class Shelf {
 public:
  explicit Shelf(const Program& p) : p_(p) {
    span_ = static_cast<int32_t>(p.steps.size()) / kSlices + 1;
    slices_.resize(kSlices);
  }

  // The lowest place that is free during a buffer's life.
  size_t lowest(int32_t id) const {
    const Program::Buffer& b = buffer(id);
    const int32_t first = b.lives.front().first, last = b.lives.back().last;
    size_t offset = 0;
    for (const Placed& p : slice_of(first) == slice_of(last) ? slices_[slice_of(first)] : all_) {
      if (p.low >= offset + b.bytes) break;
      if (p.high <= offset || p.last < first || last < p.first) continue;
      if ((p.has_gaps || b.lives.size() > 1) && !meet(b, buffer(p.id))) continue;
      offset = p.high;
    }
    return offset;
  }
  void put(int32_t id, size_t offset) {
    const Program::Buffer& b = buffer(id);
    const Placed placed{offset, offset + b.bytes,  b.lives.front().first, b.lives.back().last,
                        id,     b.lives.size() > 1};
    const auto insert = [&](std::vector<Placed>& list) {
      list.insert(std::ranges::upper_bound(list, offset, {}, &Placed::low), placed);
    };
    for (size_t k = slice_of(placed.first); k <= slice_of(placed.last); ++k) insert(slices_[k]);
    insert(all_);
  }

 private:
  // Of the program's steps: what lives within one is compared with what lives there alone.
  static constexpr int32_t kSlices = 64;
  struct Placed {
    size_t low, high;
    int32_t first, last, id;
    bool has_gaps;  // in its life
  };
  const Program::Buffer& buffer(int32_t id) const { return p_.buffers[static_cast<size_t>(id)]; }
  size_t slice_of(int32_t step) const { return static_cast<size_t>(step / span_); }

  const Program& p_;
  int32_t span_;                             // steps of a slice
  std::vector<std::vector<Placed>> slices_;  // what lives in each, by offset
  std::vector<Placed> all_;
};

// Finds places for the buffers of a program: in several orders, and where none comes close to the
// bound, by a search. All of it deterministic.
class Layout {
 public:
  Layout(Program& p, const std::vector<bool>& to_the_end)
      : p_(p), to_the_end_(to_the_end), mine_(find_lives(p)), timeline_(memory_timeline(p)) {
    for (size_t bytes : timeline_) p_.live_bytes = std::max(p_.live_bytes, bytes);
  }

  void run() {
    p_.arena_bytes = 0;
    if (mine_.empty()) return;
    for (size_t k = 0; k < kOrders && !good(); ++k) {
      Shelf shelf(p_);
      std::vector<size_t> offsets(p_.buffers.size(), 0);
      orders_.push_back(order(k));
      put(orders_[k], shelf, offsets, SIZE_MAX);
      keep_better(std::move(offsets));
    }
    if (!good()) search();
    p_.arena_bytes = best_bytes_;
    for (int32_t id : mine_)
      p_.buffers[static_cast<size_t>(id)].offset = best_[static_cast<size_t>(id)];
  }

 private:
  static constexpr size_t kOrders = 7;
  static constexpr uint64_t kWork = 50'000'000;  // looks at a buffer: some 100 ms
  static constexpr size_t kMostPacked = 3000;    // a table of pairs is as large as it should be

  bool good() const {
    return static_cast<double>(best_bytes_) <= 1.01 * static_cast<double>(p_.live_bytes);
  }

  // The buffers, the largest key first.
  std::vector<int32_t> order(size_t which) const {
    std::vector<std::pair<double, int32_t>> sorted;
    for (const int32_t id : mine_) sorted.emplace_back(-key(which, id), id);
    std::ranges::sort(sorted);
    std::vector<int32_t> order;
    for (const auto& [rank, id] : sorted) order.push_back(id);
    return order;
  }

  double key(size_t which, int32_t id) const {
    const Program::Buffer& b = p_.buffers[static_cast<size_t>(id)];
    const auto bytes = static_cast<double>(b.bytes);
    int32_t steps = 0;
    for (const Program::Life& life : b.lives) steps += life.last - life.first;
    // What lives to the end first, at the bottom; the rest fits into the time before each of them
    // begins.
    constexpr double kFirst = 1e15;
    const bool pinned = to_the_end_[static_cast<size_t>(id)];
    switch (which) {
      case 0:
        return bytes;
      case 1:
        return steps;
      case 2:
        return bytes * steps;
      case 3:
        return -b.lives[0].first;
      case 4:
        return pinned ? kFirst + bytes : bytes;
      case 5:
        return pinned ? kFirst + steps : bytes;
      default:
        return pinned ? kFirst - steps : bytes;
    }
  }

  // Puts them on a shelf one after another. Returns those that stick out of the ceiling.
  std::vector<int32_t> put(const std::vector<int32_t>& order, Shelf& shelf,
                           std::vector<size_t>& offsets, size_t ceiling) const {
    std::vector<int32_t> out;
    for (const int32_t id : order) {
      const size_t offset = shelf.lowest(id);
      shelf.put(id, offset);
      offsets[static_cast<size_t>(id)] = offset;
      if (offset + p_.buffers[static_cast<size_t>(id)].bytes > ceiling) out.push_back(id);
    }
    return out;
  }

  void keep_better(std::vector<size_t> offsets) {
    size_t top = 0;
    for (const int32_t id : mine_) {
      const auto i = static_cast<size_t>(id);
      top = std::max(top, offsets[i] + p_.buffers[i].bytes);
    }
    if (top >= best_bytes_) return;
    best_bytes_ = top;
    best_ = std::move(offsets);
  }

  // Those that are alive while memory is nearly full are packed by a search, the others find room.
  // One that does not is packed from then on.
  void search() {
    std::vector<bool> packed = alive_while_full();
    uint64_t work = 0;
    size_t round = 0;
    while (!good() && work < kWork) {
      std::vector<int32_t> ids, rest;
      std::vector<const Program::Buffer*> buffers;
      std::vector<uint32_t> position(p_.buffers.size(), 0);
      for (const int32_t id : orders_[0]) {
        const auto i = static_cast<size_t>(id);
        if (!packed[i]) {
          rest.push_back(id);
          continue;
        }
        position[i] = static_cast<uint32_t>(ids.size());
        ids.push_back(id);
        buffers.push_back(&p_.buffers[i]);
      }
      if (ids.size() > kMostPacked) return;
      Packing packing(buffers);
      std::vector<int32_t> out;
      for (; !good() && out.empty() && work + packing.work() < kWork; ++round) {
        // One half of them from both sides; short searches from every order, then longer ones.
        Packing::Attempt attempt{.ceiling = ceiling(),
                                 .conflicts = int64_t{10} << (2 * (round / kOrders / 2 % 5)),
                                 .two_sided = round / kOrders % 2 == 1};
        for (const int32_t id : orders_[round % kOrders]) {
          if (packed[static_cast<size_t>(id)])
            attempt.order.push_back(position[static_cast<size_t>(id)]);
        }
        if (!packing.search(attempt)) continue;
        Shelf shelf(p_);
        std::vector<size_t> offsets(p_.buffers.size(), 0);
        for (size_t i = 0; i < ids.size(); ++i) {
          offsets[static_cast<size_t>(ids[i])] = packing.offset(static_cast<uint32_t>(i));
          shelf.put(ids[i], packing.offset(static_cast<uint32_t>(i)));
        }
        out = put(rest, shelf, offsets, attempt.ceiling);
        keep_better(std::move(offsets));
      }
      for (const int32_t id : out) packed[static_cast<size_t>(id)] = true;
      work += packing.work();
    }
  }

  // A little below the best so far: what is near the bound comes in steps.
  size_t ceiling() const { return p_.live_bytes + (best_bytes_ - p_.live_bytes) / 640 * 576; }

  std::vector<bool> alive_while_full() const {
    const double full = 0.95 * static_cast<double>(p_.live_bytes);
    std::vector<int32_t> next(timeline_.size() + 1, INT32_MAX);  // step at which it is
    for (size_t t = timeline_.size(); t-- > 0;)
      next[t] = static_cast<double>(timeline_[t]) >= full ? static_cast<int32_t>(t) : next[t + 1];
    std::vector<bool> alive(p_.buffers.size(), false);
    for (const int32_t id : mine_) {
      alive[static_cast<size_t>(id)] = std::ranges::any_of(
          p_.buffers[static_cast<size_t>(id)].lives, [&](const Program::Life& life) {
            return next[static_cast<size_t>(life.first)] <= life.last;
          });
    }
    return alive;
  }

  Program& p_;
  const std::vector<bool>& to_the_end_;
  std::vector<int32_t> mine_;
  std::vector<size_t> timeline_;
  std::vector<std::vector<int32_t>> orders_;
  std::vector<size_t> best_;  // [buffer]: offsets
  size_t best_bytes_ = SIZE_MAX;
};

}  // namespace

void lay_out(Program& program, const std::vector<bool>& to_the_end) {
  Layout(program, to_the_end).run();
}

}  // namespace graft
