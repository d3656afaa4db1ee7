#include "autograd/plan/early_updates.h"

#include <algorithm>
#include <map>

#include "autograd/op.h"
#include "autograd/plan/sources.h"

namespace graft {
namespace {

// Puts nodes of the update phase between those of forward and backward, which keep their order.
class EarlyUpdates {
 public:
  EarlyUpdates(const Graph& graph, const std::vector<int32_t>& order, const Scratch& scratch)
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
    place(Ledger(graph, order, scratch));
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

}  // namespace

std::vector<int32_t> update_early(const Graph& graph, const std::vector<int32_t>& order,
                                  const Scratch& scratch) {
  return EarlyUpdates(graph, order, scratch).order();
}

}  // namespace graft
