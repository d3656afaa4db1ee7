#include "autograd/plan/free_early.h"

#include <algorithm>
#include <map>
#include <utility>

#include "autograd/op.h"
#include "autograd/plan/lives.h"
#include "autograd/plan/recompute.h"
#include "autograd/plan/scratch.h"
#include "autograd/plan/sources.h"

namespace graft {
namespace {

// ---- backward: who ends a value comes early

// What the nodes of an order do to the bytes that are alive.
class Ledger {
 public:
  // What a node adds while it runs, and what it leaves behind.
  struct Change {
    int64_t peak = 0, net = 0;
  };

  Ledger(const Graph& graph, const std::vector<int32_t>& order, Backend backend) : graph_(graph) {
    const size_t count = graph.nodes().size();
    std::vector<bool> runs(count, false);
    for (const int32_t id : order) runs[static_cast<size_t>(id)] = true;
    first_.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const Node& n = graph.nodes()[i];
      first_.push_back(bytes_.size());
      for (size_t k = 0; k < n.outputs.size(); ++k) {
        const bool own = runs[i] && !is_view(n) && !in_place(n, k);
        bytes_.push_back(own ? static_cast<int64_t>(n.outputs[k].bytes()) : 0);
      }
    }
    last_reader_.assign(bytes_.size(), -1);
    reads_.resize(count);
    scratch_.assign(count, 0);
    for (const int32_t id : order) {
      scratch_[static_cast<size_t>(id)] =
          static_cast<int64_t>(scratch_bytes(graph, graph.node(id), backend));
      auto& mine = reads_[static_cast<size_t>(id)];
      if (is_view(graph.node(id))) continue;
      for (const Value v : graph.node(id).inputs) {
        if (v.valid() && bytes_[index(base_of(graph, v))] > 0)
          mine.push_back(index(base_of(graph, v)));
      }
      std::ranges::sort(mine);
      mine.erase(std::ranges::unique(mine).begin(), mine.end());
      for (const size_t v : mine) last_reader_[v] = id;
    }
    for (const auto* named : {&graph.outputs(), &graph.assignments()}) {
      for (const auto& [name, v] : *named) last_reader_[index(base_of(graph, v))] = kResult;
    }
  }

  // Values, by index.
  const std::vector<size_t>& reads(int32_t id) const { return reads_[static_cast<size_t>(id)]; }
  int64_t bytes(size_t v) const { return bytes_[v]; }
  bool ends(int32_t id, size_t v) const { return last_reader_[v] == id; }
  void set_last_reader(size_t v, int32_t id) { last_reader_[v] = id; }

  Change change(int32_t id) const {
    const Node& n = graph_.node(id);
    Change c{.peak = scratch_[static_cast<size_t>(id)]};
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const size_t v = first_[static_cast<size_t>(id)] + k;
      c.peak += bytes_[v];
      if (last_reader_[v] != kNobody) c.net += bytes_[v];
    }
    for (const size_t v : reads(id)) {
      if (ends(id, v)) c.net -= bytes_[v];
    }
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const Value v = n.inputs[i];
      if (!n.op->may_overwrite(i) || !v.valid() || graph_.type(v) != n.outputs[0]) continue;
      if (!ends(id, index(base_of(graph_, v)))) continue;
      c.peak -= bytes_[first_[static_cast<size_t>(id)]];
      break;
    }
    return c;
  }

 private:
  static constexpr int32_t kNobody = -1, kResult = -2;  // of a value that lives to the end
  size_t index(Value v) const {
    return first_[static_cast<size_t>(v.node)] + static_cast<size_t>(v.output);
  }

  const Graph& graph_;
  std::vector<size_t> first_;     // [node]: index of its first output
  std::vector<int64_t> bytes_;    // [value]: 0 for what has no bytes of its own that come and go
  std::vector<int64_t> scratch_;  // [node]
  std::vector<int32_t> last_reader_;
  std::vector<std::vector<size_t>> reads_;  // [node]: distinct, views looked through
};

// Moves one node of backward after another in front of those before it, as far as that makes room.
// Views stand where they are read.
class Advance {
 public:
  Advance(const Graph& graph, const std::vector<int32_t>& order, Backend backend)
      : graph_(graph), ledger_(graph, order, backend) {
    views_.resize(graph.nodes().size());
    asked_for_.assign(graph.nodes().size(), false);
    for (const int32_t id : order) {
      for (const Value v : graph.node(id).inputs) {
        if (!v.valid()) continue;
        if (is_late(id)) asked_for_[static_cast<size_t>(v.node)] = true;
        if (is_late_view(id)) views_[static_cast<size_t>(v.node)].push_back(id);
      }
      if (is_late_view(id)) {
        waiting_.push_back(id);
        continue;
      }
      sequence_.push_back(id);
      if (is_late(id)) advance_last();
    }
  }

  std::vector<int32_t> order() {
    written_.assign(graph_.nodes().size(), false);
    for (const int32_t id : sequence_) {
      if (graph_.node(id).phase == Phase::update) {
        for (const int32_t view : std::exchange(waiting_, {})) write(view);
      }
      write(id);
    }
    for (const int32_t view : waiting_) write(view);
    return std::move(order_);
  }

 private:
  bool is_late(int32_t id) const {
    const Node& n = graph_.node(id);
    return n.phase == Phase::backward && n.op->updates[0] < 0;
  }
  bool is_late_view(int32_t id) const { return is_late(id) && is_view(graph_.node(id)); }

  bool reads(int32_t id, int32_t producer) const {
    return std::ranges::any_of(graph_.node(id).inputs, [&](Value v) {
      return v.valid() && base_of(graph_, v).node == producer;
    });
  }

  // What some nodes in a row do to memory.
  struct Stretch {
    int64_t peak = 0, net = 0;
    void prepend(const Ledger::Change& c) {
      peak = std::max(c.peak, c.net + peak);
      net += c.net;
    }
  };

  void advance_last() {
    const int32_t id = sequence_.back();
    std::vector<size_t> ended;
    for (const size_t v : ledger_.reads(id)) {
      if (ledger_.ends(id, v)) ended.push_back(v);
    }
    const size_t end = sequence_.size() - 1;
    size_t best = end;
    Ledger::Change own = ledger_.change(id);
    // From the place that is looked at to the best one, without this node and behind it.
    Stretch without, behind;
    std::vector<size_t> handed;  // what others end if it goes in front of them
    for (size_t i = end; i-- > 0 && !ended.empty();) {
      const int32_t other = sequence_[i];
      if (!is_late(other) || reads(id, other)) break;
      without.prepend(ledger_.change(other));
      std::erase_if(ended, [&](size_t v) {
        if (!std::ranges::binary_search(ledger_.reads(other), v)) return false;
        ledger_.set_last_reader(v, other);
        handed.push_back(v);
        return true;
      });
      behind.prepend(ledger_.change(other));
      const Ledger::Change first = ledger_.change(id);
      if (std::max(first.peak, first.net + behind.peak) <
          std::max(without.peak, without.net + own.peak)) {
        best = i;
        own = first;
        without = behind = {};
        handed.clear();
      }
    }
    for (const size_t v : handed) ledger_.set_last_reader(v, id);
    const auto at = [&](size_t i) { return sequence_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::rotate(at(best), at(end), sequence_.end());
  }

  // Behind the views that it reads; with those that only updates and results ask for.
  void write(int32_t id) {
    if (written_[static_cast<size_t>(id)]) return;
    written_[static_cast<size_t>(id)] = true;
    for (const Value v : graph_.node(id).inputs) {
      if (v.valid() && is_late_view(v.node)) write(v.node);
    }
    order_.push_back(id);
    for (const int32_t view : views_[static_cast<size_t>(id)]) {
      if (is_late(id) && !asked_for_[static_cast<size_t>(view)]) write(view);
    }
  }

  const Graph& graph_;
  Ledger ledger_;
  std::vector<std::vector<int32_t>> views_;  // [node]: views of backward that read it
  std::vector<bool> asked_for_;              // [node]: backward reads it
  std::vector<int32_t> waiting_;             // views of backward
  std::vector<int32_t> sequence_;            // all other nodes
  std::vector<bool> written_;
  std::vector<int32_t> order_;
};

// ---- updates

// Puts nodes of the update phase between those of forward and backward, which keep their order.
class EarlyUpdates {
 public:
  EarlyUpdates(const Graph& graph, const std::vector<int32_t>& order, Backend backend)
      : graph_(graph), sources_(graph) {
    const size_t count = graph.nodes().size();
    at_.assign(count, kBefore);
    for (const int32_t id : order) {
      if (is_update(id)) {
        updates_.push_back(id);
      } else {
        at_[static_cast<size_t>(id)] = static_cast<int32_t>(others_.size());
        others_.push_back(id);
      }
    }
    find_last_wanted();
    place(Ledger(graph, order, backend));
  }

  std::vector<int32_t> order() const {
    std::vector<std::vector<int32_t>> behind(others_.size() + 1);
    for (const int32_t id : updates_)
      behind[static_cast<size_t>(at_[static_cast<size_t>(id)] + 1)].push_back(id);
    std::vector<int32_t> order = behind[0];
    for (size_t i = 0; i < others_.size(); ++i) {
      order.push_back(others_[i]);
      order.insert(order.end(), behind[i + 1].begin(), behind[i + 1].end());
    }
    return order;
  }

 private:
  static constexpr int32_t kBefore = -1;  // in front of all others
  static constexpr size_t kFew = 64;      // bytes that are not worth a thought

  bool is_update(int32_t id) const { return graph_.node(id).phase == Phase::update; }
  int32_t last() const { return static_cast<int32_t>(others_.size()) - 1; }

  // Who reads a value of forward in backward may want it computed again, and with it all that it
  // is computed from.
  void find_last_wanted() {
    std::vector<int32_t> of_node = at_;
    for (size_t i = others_.size(); i-- > 0;) {
      const int32_t id = others_[i];
      const Node& n = graph_.node(id);
      const bool passes_on = n.phase == Phase::forward || is_view(n);
      const int32_t wanted =
          passes_on ? of_node[static_cast<size_t>(id)] : at_[static_cast<size_t>(id)];
      for (const Value v : n.inputs) {
        if (!v.valid()) continue;
        int32_t& there = of_node[static_cast<size_t>(v.node)];
        there = std::max(there, wanted);
        const auto [it, fresh] = last_wanted_.try_emplace(sources_.of(v), wanted);
        it->second = std::max(it->second, wanted);
      }
    }
  }

  // Where a node ends more than it leaves behind it runs as soon as it can; a scalar does when it
  // is wanted; all others wait for the end.
  void place(const Ledger& ledger) {
    std::map<Value, std::vector<int32_t>> readers;  // among updates
    std::vector<std::vector<int32_t>> follow(graph_.nodes().size());
    for (const int32_t id : updates_) {
      for (const Value v : graph_.node(id).inputs) {
        if (v.valid()) readers[sources_.of(v)].push_back(id);
      }
    }
    std::vector<int32_t> scalars;
    for (const int32_t id : updates_) {
      const Node& n = graph_.node(id);
      int32_t& at = at_[static_cast<size_t>(id)];
      const auto come_behind = [&](int32_t other) {
        at = std::max(at, at_[static_cast<size_t>(other)]);
        follow[static_cast<size_t>(other)].push_back(id);
      };
      for (const Value v : n.inputs) {
        if (v.valid()) come_behind(v.node);
      }
      for (const int8_t updated : n.op->updates) {
        if (updated < 0) continue;
        const Value old = sources_.of(n.inputs[static_cast<size_t>(updated)]);
        if (const auto it = last_wanted_.find(old); it != last_wanted_.end())
          at = std::max(at, it->second);
        for (const int32_t reader : readers[old]) {
          if (reader != id) come_behind(reader);
        }
      }
      const auto small = [](const Type& t) { return t.bytes() <= kFew; };
      if (ledger.change(id).net < 0) continue;
      if (std::ranges::all_of(n.outputs, small)) {
        scalars.push_back(id);
      } else {
        at = last();
      }
    }
    for (size_t i = scalars.size(); i-- > 0;) {
      int32_t& at = at_[static_cast<size_t>(scalars[i])];
      at = last();
      for (const int32_t next : follow[static_cast<size_t>(scalars[i])])
        at = std::min(at, at_[static_cast<size_t>(next)]);
    }
  }

  const Graph& graph_;
  Sources sources_;
  std::vector<int32_t> others_, updates_;
  std::map<Value, int32_t> last_wanted_;  // [source]: of the last in others_ that may read it
  std::vector<int32_t> at_;  // [node]: its place in others_, for an update of the one before it
};

// ---- which order is better

// The most bytes that values and scratch memory take at once.
int64_t peak_bytes(const Graph& graph, const std::vector<int32_t>& runs, Backend backend) {
  const Lives lives(graph, runs);
  std::vector<int64_t> change(runs.size() + 2, 0), meanwhile(runs.size() + 2, 0);
  std::vector<bool> seen(graph.nodes().size(), false);
  for (size_t at = 0; at < runs.size(); ++at) {
    const int32_t id = runs[at];
    const Node& n = graph.node(id);
    if (is_view(n)) continue;
    meanwhile[at] += static_cast<int64_t>(scratch_bytes(graph, n, backend));
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const Value v = n.inputs[i];
      if (!n.op->may_overwrite(i) || !v.valid() || graph.type(v) != n.outputs[0]) continue;
      const Value base = base_of(graph, v);
      const auto ends = [&](const Life& life) { return life.last == static_cast<int32_t>(at); };
      if (!std::ranges::any_of(lives.of(base.node, static_cast<size_t>(base.output)), ends))
        continue;
      meanwhile[at] -= static_cast<int64_t>(n.outputs[0].bytes());
      break;
    }
    if (seen[static_cast<size_t>(id)]) continue;
    seen[static_cast<size_t>(id)] = true;
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      if (in_place(n, k)) continue;
      for (const Life& life : lives.of(id, k)) {
        change[static_cast<size_t>(life.first)] += static_cast<int64_t>(n.outputs[k].bytes());
        change[static_cast<size_t>(life.last) + 1] -= static_cast<int64_t>(n.outputs[k].bytes());
      }
    }
  }
  int64_t alive = 0, peak = 0;
  for (size_t at = 0; at < change.size(); ++at) {
    alive += change[at];
    peak = std::max(peak, alive + meanwhile[at]);
  }
  return peak;
}

}  // namespace

// What is computed again is not known yet as nodes advance, and may be more than they free.
std::vector<int32_t> free_early(const Graph& graph, const std::vector<int32_t>& order,
                                Backend backend) {
  std::vector<int32_t> as_it_stands = EarlyUpdates(graph, order, backend).order(),
                       advanced =
                           EarlyUpdates(graph, Advance(graph, order, backend).order(), backend)
                               .order();
  const auto peak = [&](const std::vector<int32_t>& o) {
    return peak_bytes(graph, with_recomputation(graph, o, cheaply_kept(graph, o)), backend);
  };
  return peak(advanced) <= peak(as_it_stands) ? advanced : as_it_stands;
}

}  // namespace graft
