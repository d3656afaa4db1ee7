#include "autograd/planner.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <set>

#include "autograd/op.h"
#include "autograd/passes/dead_code.h"
#include "core/error.h"
#include "core/random.h"

namespace graft {
namespace {

constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

class Planner {
 public:
  Planner(const Graph& graph, const PlanOptions& options) : options_(options) {
    p_.graph = graph;
    p_.backend = options.backend;
  }

  Program run() {
    live_ = live_nodes(p_.graph);
    find_once();
    order_nodes();
    count_reads();
    find_homes();
    place_values();
    lay_out();
    for (int32_t id : order_) p_.flops += cost_of(p_.graph, p_.graph.node(id)).flops;
    return std::move(p_);
  }

 private:
  const Node& node(int32_t id) const { return p_.graph.node(id); }
  static bool is_leaf(const Node& n) { return n.op->name == "input" || n.op->name == "param"; }

  // Nodes that depend on frozen parameters alone are computed once and kept: packed weights,
  // transposed tables. Constants are cheaper to refill than to keep.
  void find_once() {
    std::set<std::string> changing;
    for (const auto& [name, v] : p_.graph.assignments()) changing.insert(name);
    const size_t count = p_.graph.nodes().size();
    p_.once.assign(count, false);
    std::vector<bool> frozen(count, false);
    for (size_t i = 0; i < count; ++i) {
      const Node& n = p_.graph.nodes()[i];
      if (n.op->name == "param") {
        const Param& param = p_.graph.param(n.attrs.as<NameAttrs>().name);
        frozen[i] =
            !param.trainable && param.kind == Param::Kind::weight && !changing.contains(param.name);
      } else if ((!n.inputs.empty() || n.op->once) && n.op->view_of < 0) {
        frozen[i] = std::ranges::all_of(
            n.inputs, [&](Value v) { return !v.valid() || frozen[static_cast<size_t>(v.node)]; });
        p_.once[i] = frozen[i] && live_[i];
      } else if (n.op->view_of >= 0) {
        frozen[i] = frozen[static_cast<size_t>(n.inputs[0].node)];
      }
    }
  }

  // The graph's own order, except that an update in place waits for everyone who reads the old
  // value.
  void order_nodes() {
    const auto count = static_cast<int32_t>(p_.graph.nodes().size());
    std::vector<std::vector<int32_t>> after(static_cast<size_t>(count));
    std::vector<int32_t> pending(static_cast<size_t>(count), 0);
    auto edge = [&](int32_t from, int32_t to) {
      after[static_cast<size_t>(from)].push_back(to);
      ++pending[static_cast<size_t>(to)];
    };
    const Uses uses(p_.graph.nodes());
    for (int32_t i = 0; i < count; ++i) {
      if (!live_[static_cast<size_t>(i)]) continue;
      const Node& n = node(i);
      for (const Value v : n.inputs) {
        if (v.valid()) edge(v.node, i);
      }
      for (int8_t updated : n.op->updates) {
        if (updated < 0) continue;
        for (const Use& u : uses.of(n.inputs[static_cast<size_t>(updated)])) {
          if (u.node != i && live_[static_cast<size_t>(u.node)]) edge(u.node, i);
        }
      }
    }
    std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> ready;
    for (int32_t i = 0; i < count; ++i) {
      if (live_[static_cast<size_t>(i)] && pending[static_cast<size_t>(i)] == 0) ready.push(i);
    }
    size_t wanted = static_cast<size_t>(std::ranges::count(live_, true));
    while (!ready.empty()) {
      const int32_t id = ready.top();
      ready.pop();
      --wanted;
      if (!is_leaf(node(id)) && !p_.once[static_cast<size_t>(id)]) order_.push_back(id);
      for (int32_t next : after[static_cast<size_t>(id)]) {
        if (--pending[static_cast<size_t>(next)] == 0) ready.push(next);
      }
    }
    if (wanted != 0) {
      throw GraphError(
          "updates in place cannot be ordered: two of them read each other's old values");
    }
  }

  // What is assigned to a parameter may be computed in the parameter's own bytes, and so may what
  // it is computed from in place. overwritable_input decides whether old bytes may go.
  void find_homes() {
    home_.assign(p_.graph.nodes().size(), nullptr);
    for (const auto& [name, v] : p_.graph.assignments()) {
      if (v.output == 0) home_[static_cast<size_t>(v.node)] = &name;
    }
    for (size_t i = home_.size(); i-- > 0;) {
      const Node& n = p_.graph.nodes()[i];
      for (size_t k = 0; k < n.inputs.size() && home_[i] != nullptr; ++k) {
        const Value v = n.inputs[k];
        if (!n.op->may_overwrite(k) || !v.valid() || v.output != 0) continue;
        if (home_[static_cast<size_t>(v.node)] == nullptr)
          home_[static_cast<size_t>(v.node)] = home_[i];
      }
    }
  }

  // Positions in order_ at which each value is read for the last time; results are read at the very
  // end.
  void count_reads() {
    const auto end = static_cast<int32_t>(order_.size());
    last_read_.resize(p_.graph.nodes().size());
    for (size_t i = 0; i < last_read_.size(); ++i)
      last_read_[i].assign(p_.graph.nodes()[i].outputs.size(), -1);
    for (int32_t at = 0; at < end; ++at) {
      for (const Value v : node(order_[static_cast<size_t>(at)]).inputs) {
        if (v.valid()) last_read_[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)] = at;
      }
    }
    for (const auto* named : {&p_.graph.outputs(), &p_.graph.assignments()}) {
      for (const auto& [name, v] : *named)
        last_read_[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)] = end;
    }
  }

  int32_t add_buffer(Program::Kind kind, size_t bytes, std::string name = {}) {
    p_.buffers.push_back(
        {kind,
         kind == Program::Kind::arena || kind == Program::Kind::workspace ? aligned(bytes) : bytes,
         0, std::move(name)});
    return static_cast<int32_t>(p_.buffers.size()) - 1;
  }

  int32_t buffer_of(Value v) const {
    return p_.place[static_cast<size_t>(v.node)][static_cast<size_t>(v.output)];
  }

  void place_values() {
    const size_t count = p_.graph.nodes().size();
    p_.place.resize(count);
    p_.workspace.assign(count, -1);
    for (size_t i = 0; i < count; ++i) {
      p_.place[i].assign(p_.graph.nodes()[i].outputs.size(), -1);
      if (!live_[i]) continue;
      const Node& n = p_.graph.nodes()[i];
      if (is_leaf(n)) {
        const auto kind = n.op->name == "input"  ? Program::Kind::input
                          : last_read_[i][0] < 0 ? Program::Kind::source
                                                 : Program::Kind::param;
        p_.place[i][0] = add_buffer(kind, n.outputs[0].bytes(), n.attrs.as<NameAttrs>().name);
        expiry_.resize(p_.buffers.size(), -1);
        expiry_.back() = last_read_[i][0];
      } else if (p_.once[i]) {
        const bool read = std::ranges::any_of(last_read_[i], [](int32_t at) { return at >= 0; });
        const auto kind = read ? Program::Kind::derived : Program::Kind::passing;
        for (size_t k = 0; k < n.outputs.size(); ++k) {
          p_.place[i][k] =
              add_buffer(kind, n.outputs[k].bytes(), derived_name(static_cast<int32_t>(i), k));
        }
      }
    }
    expiry_.resize(p_.buffers.size(), -1);
    for (size_t at = 0; at < order_.size(); ++at) place_node(order_[at], static_cast<int32_t>(at));

    // Steps: each run, followed by what dies with it.
    const auto end = static_cast<int32_t>(order_.size());
    std::vector<std::vector<int32_t>> dying(order_.size() + 1);
    for (size_t b = 0; b < p_.buffers.size(); ++b) {
      const Program::Kind kind = p_.buffers[b].kind;
      if (kind == Program::Kind::arena || kind == Program::Kind::workspace) {
        dying[static_cast<size_t>(std::min(expiry_[b], end))].push_back(static_cast<int32_t>(b));
      }
    }
    for (int32_t at = 0; at < end; ++at) {
      p_.steps.push_back({Program::Action::run, order_[static_cast<size_t>(at)], -1});
      for (int32_t b : dying[static_cast<size_t>(at)])
        p_.steps.push_back({Program::Action::free, -1, b});
    }
    for (size_t i = 0; i < p_.graph.assignments().size(); ++i) {
      const auto& [name, v] = p_.graph.assignments()[i];
      const Program::Buffer& b = p_.buffers[static_cast<size_t>(buffer_of(v))];
      if (b.kind != Program::Kind::param || b.name != name) {
        p_.steps.push_back({Program::Action::write, static_cast<int32_t>(i), -1});
      }
    }
    for (int32_t b : dying[order_.size()]) p_.steps.push_back({Program::Action::free, -1, b});
  }

  void place_node(int32_t id, int32_t at) {
    const Node& n = node(id);
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      int32_t b = -1;
      if (n.op->view_of >= 0) {
        b = buffer_of(n.inputs[static_cast<size_t>(n.op->view_of)]);
      } else if (k < n.op->updates.size() && n.op->updates[k] >= 0) {
        b = buffer_of(n.inputs[static_cast<size_t>(n.op->updates[k])]);
      } else if (k == 0 && options_.in_place) {
        b = overwritable_input(id, at);
      }
      if (b < 0) b = add_buffer(Program::Kind::arena, n.outputs[k].bytes());
      expiry_.resize(p_.buffers.size(), -1);
      p_.place[static_cast<size_t>(id)][k] = b;
      // Views and in-place results prolong the life of what they stand in.
      const int32_t last = std::max(at, last_read_[static_cast<size_t>(id)][k]);
      expiry_[static_cast<size_t>(b)] = std::max(expiry_[static_cast<size_t>(b)], last);
    }
    if (size_t bytes = workspace_bytes(n); bytes > 0) {
      const int32_t b = add_buffer(Program::Kind::workspace, bytes);
      expiry_.resize(p_.buffers.size(), -1);
      expiry_[static_cast<size_t>(b)] = at;
      p_.workspace[static_cast<size_t>(id)] = b;
    }
  }

  int32_t overwritable_input(int32_t id, int32_t at) const {
    const Node& n = node(id);
    const std::string* home = home_[static_cast<size_t>(id)];
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const Value v = n.inputs[i];
      if (!n.op->may_overwrite(i) || !v.valid() || p_.graph.type(v) != n.outputs[0]) continue;
      const int32_t b = buffer_of(v);
      const Program::Buffer& buffer = p_.buffers[static_cast<size_t>(b)];
      const bool ours = buffer.kind == Program::Kind::arena ||
                        (buffer.kind == Program::Kind::param && home && *home == buffer.name);
      // expiry_ covers every value that stands in these bytes.
      if (!ours || expiry_[static_cast<size_t>(b)] > at) continue;
      // Another operand that stands in the same bytes must be the very same value, and one that may
      // be overwritten too.
      bool shared = false;
      for (size_t k = 0; k < n.inputs.size(); ++k) {
        const Value o = n.inputs[k];
        if (!o.valid() || buffer_of(o) != b) continue;
        shared = shared || o != v || !n.op->may_overwrite(k);
      }
      if (!shared) return b;
    }
    return -1;
  }

  size_t workspace_bytes(const Node& n) const {
    const KernelEntry* kernel = n.op->view_of >= 0 ? nullptr : find_kernel(p_.backend, n.op->name);
    if (kernel == nullptr) {
      if (n.op->view_of >= 0) return 0;
      throw DeviceError("op '{}' at '{}' has no {} kernel", n.op->name, n.scope,
                        name_of(p_.backend));
    }
    if (kernel->workspace == nullptr) return 0;
    std::vector<View> in, out;
    for (const Value v : n.inputs) {
      if (v.valid()) {
        in.push_back({nullptr, p_.graph.type(v).dtype, p_.graph.type(v).shape, true});
      } else {
        in.push_back({.present = false});
      }
    }
    for (const Type& t : n.outputs) out.push_back({nullptr, t.dtype, t.shape, true});
    return kernel->workspace({in, out, &n.attrs, nullptr});
  }

  // Names the value by what it is computed from, so that every program on the same store finds the
  // same bytes.
  std::string derived_name(int32_t id, size_t output) {
    const Node& n = node(id);
    if (n.op->name == "param") {
      // One program may read it as it is stored, another widened.
      const auto& a = n.attrs.as<NameAttrs>();
      return a.dtype == DType::f32 ? a.name : fmt::format("{}:{}", a.name, name_of(a.dtype));
    }
    std::string& known = derived_names_[{id, static_cast<int32_t>(output)}];
    if (!known.empty()) return known;
    std::string text = fmt::format("{}{{{}}}", n.op->name, n.attrs.str());
    if (output > 0) text += fmt::format(".{}", output);
    text += "(";
    for (const Value v : n.inputs)
      text += (v.valid() ? derived_name(v.node, static_cast<size_t>(v.output)) : "-") + ",";
    text += ")";
    // Shared subexpressions would double it from level to level.
    constexpr size_t kLongest = 300;
    if (text.size() > kLongest) {
      text = fmt::format("{}#{:016x}{:016x}", n.op->name, hash_name(text), hash_name(text + "#"));
    }
    return known = text;
  }

  void lay_out();
  std::vector<size_t> offsets_in_order(const std::vector<int32_t>& buffers,
                                       const std::function<double(int32_t)>& key,
                                       size_t& top) const;

  PlanOptions options_;
  Program p_;
  std::vector<bool> live_;
  std::vector<int32_t> order_;
  std::vector<std::vector<int32_t>> last_read_;
  std::map<Value, std::string> derived_names_;
  std::vector<const std::string*> home_;  // [node]: the parameter that output 0 becomes; or null
  std::vector<int32_t> expiry_;           // [buffer]: position in order_ after which it is dead
};

// Lives in steps, then offsets: buffers in several orders, each at the lowest place that is free
// during its life; the best order wins.
void Planner::lay_out() {
  std::vector<int32_t> mine;
  for (size_t s = 0; s < p_.steps.size(); ++s) {
    const Program::Step& step = p_.steps[s];
    const auto at = static_cast<int32_t>(s);
    if (step.action == Program::Action::run) {
      auto start = [&](int32_t b) {
        Program::Buffer& buffer = p_.buffers[static_cast<size_t>(b)];
        if ((buffer.kind == Program::Kind::arena || buffer.kind == Program::Kind::workspace) &&
            buffer.first < 0) {
          buffer.first = at;
          mine.push_back(b);
        }
      };
      for (int32_t b : p_.place[static_cast<size_t>(step.node)]) start(b);
      if (const int32_t b = p_.workspace[static_cast<size_t>(step.node)]; b >= 0) start(b);
    } else if (step.action == Program::Action::free) {
      p_.buffers[static_cast<size_t>(step.buffer)].last = at;
    }
  }
  const std::vector<size_t> timeline = memory_timeline(p_);
  for (size_t bytes : timeline) p_.live_bytes = std::max(p_.live_bytes, bytes);

  // Orders by size, life and both; then sizes shaken a little, while the result is not close to the
  // bound. All of it deterministic.
  using Key = std::function<double(int32_t)>;
  auto bytes_of = [&](int32_t id) {
    return static_cast<double>(p_.buffers[static_cast<size_t>(id)].bytes);
  };
  auto life_of = [&](int32_t id) {
    const Program::Buffer& b = p_.buffers[static_cast<size_t>(id)];
    return static_cast<double>(b.last - b.first);
  };
  std::vector<Key> keys = {
      bytes_of, life_of, [&](int32_t id) { return bytes_of(id) * life_of(id); },
      [&](int32_t id) { return -static_cast<double>(p_.buffers[static_cast<size_t>(id)].first); }};
  // What lives to the end first, at the bottom; the rest fits into the time before each of them
  // begins.
  const auto end = static_cast<int32_t>(order_.size());
  auto pinned = [&](int32_t id) { return expiry_[static_cast<size_t>(id)] >= end ? 1e15 : 0.0; };
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
    std::vector<size_t> offsets = offsets_in_order(mine, key, top);
    if (top < best_bytes) {
      best_bytes = top;
      best = std::move(offsets);
    }
    if (static_cast<double>(best_bytes) <= 1.01 * static_cast<double>(p_.live_bytes)) break;
  }
  p_.arena_bytes = mine.empty() ? 0 : best_bytes;
  for (int32_t id : mine)
    p_.buffers[static_cast<size_t>(id)].offset = best[static_cast<size_t>(id)];

  std::set<std::string> counted;  // several leaves of one name are one buffer
  for (const Program::Buffer& b : p_.buffers) {
    const bool persistent = b.kind == Program::Kind::input || b.kind == Program::Kind::param ||
                            b.kind == Program::Kind::derived;
    if (persistent && counted.insert(b.name).second) p_.persistent_bytes += b.bytes;
  }
}

// Each buffer in turn at the lowest place that is free during its life, the largest key first.
std::vector<size_t> Planner::offsets_in_order(const std::vector<int32_t>& buffers,
                                              const std::function<double(int32_t)>& key,
                                              size_t& top) const {
  std::vector<std::pair<double, int32_t>> sorted;
  for (int32_t id : buffers) sorted.emplace_back(-key(id), id);
  std::ranges::sort(sorted);
  std::vector<size_t> offsets(p_.buffers.size(), 0);
  std::vector<int32_t> placed;  // by offset
  for (const auto& [rank, id] : sorted) {
    const Program::Buffer& b = p_.buffers[static_cast<size_t>(id)];
    size_t offset = 0;
    for (int32_t other : placed) {
      const Program::Buffer& o = p_.buffers[static_cast<size_t>(other)];
      const size_t low = offsets[static_cast<size_t>(other)];
      if (o.last < b.first || b.last < o.first) continue;
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

Program plan(const Graph& graph, const PlanOptions& options) {
  return Planner(graph, options).run();
}

}  // namespace graft
