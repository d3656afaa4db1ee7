#include "autograd/plan/free_early.h"

#include <algorithm>
#include <set>
#include <utility>

#include "autograd/op.h"
#include "autograd/plan/early_updates.h"
#include "autograd/plan/ledger.h"
#include "autograd/plan/lives.h"
#include "autograd/plan/recompute.h"
#include "autograd/plan/scratch.h"
#include "autograd/plan/sources.h"

namespace graft {
namespace {

// Moves one node of backward after another in front of those before it, as far as that makes room.
// Views stand where they are read.
class Advance {
 public:
  Advance(const Graph& graph, const std::vector<int32_t>& order, const Scratch& scratch)
      : graph_(graph), ledger_(graph, order, scratch) {
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
    return n.phase == Phase::backward && !changes_state(n);
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

// The most bytes that values and scratch memory take at once.
int64_t peak_bytes(const Graph& graph, const std::vector<int32_t>& runs, const Scratch& scratch) {
  const Lives lives(graph, runs);
  std::vector<int64_t> change(runs.size() + 2, 0), meanwhile(runs.size() + 2, 0);
  std::vector<bool> seen(graph.nodes().size(), false);
  for (size_t at = 0; at < runs.size(); ++at) {
    const int32_t id = runs[at];
    const Node& n = graph.node(id);
    if (is_view(n)) continue;
    meanwhile[at] += scratch[static_cast<size_t>(id)];
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
  const Scratch scratch = scratch_of(graph, order, backend);
  std::vector<int32_t> as_it_stands = update_early(graph, order, scratch),
                       advanced =
                           update_early(graph, Advance(graph, order, scratch).order(), scratch);
  const std::set<Value> kept = cheaply_kept(graph, order);
  const auto peak = [&](const std::vector<int32_t>& o) {
    return peak_bytes(graph, with_recomputation(graph, o, kept), scratch);
  };
  return peak(advanced) <= peak(as_it_stands) ? advanced : as_it_stands;
}

}  // namespace graft
