#include "autograd/planner.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "autograd/op.h"
#include "autograd/passes/dead_code.h"
#include "autograd/plan/layout.h"
#include "autograd/plan/least_recomputation.h"
#include "autograd/plan/lives.h"
#include "autograd/plan/order.h"
#include "autograd/plan/scratch.h"
#include "core/error.h"
#include "core/random.h"

namespace graft {
namespace {

class Planner {
 public:
  Planner(const Graph& graph, const PlanOptions& options)
      : options_(options), live_(live_nodes(graph)) {
    p_.graph = graph;
    p_.backend = options.backend;
    p_.once = computed_once(graph, live_);
    order_ = execution_order(graph, live_, p_.once, p_.backend);
    scratch_ = scratch_of(graph, order_, p_.backend);
    find_homes();
  }

  Program run() {
    switch (options_.recompute) {
      case Recompute::none:
        place(order_);
        break;
      case Recompute::cheap:
        place(cheap_runs());
        break;
      case Recompute::automatic:
        place_within_budget();
        return std::move(p_);
    }
    assign_offsets();
    return std::move(p_);
  }

 private:
  // Everything but offsets.
  void place(std::vector<int32_t> runs) {
    runs_ = std::move(runs);
    lives_.emplace(p_.graph, runs_);
    p_.buffers.clear();
    held_.clear();
    p_.steps.clear();
    p_.persistent_bytes = 0;
    place_values();
    write_steps();
    count_persistent();
  }

  void assign_offsets() {
    std::vector<bool> to_the_end(p_.buffers.size(), false);
    for (size_t b = 0; b < p_.buffers.size(); ++b) {
      to_the_end[b] =
          std::ranges::any_of(held_[b], [&](const Life& life) { return life.last >= end(); });
    }
    p_.live_bytes = 0;
    lay_out(p_, to_the_end);
    count_operations();
  }

  void count_operations() {
    p_.flops = p_.recompute_flops = 0;
    for (const Program::Step& step : p_.steps) {
      if (!step.runs()) continue;
      const double flops = cost_of(p_.graph, node(step.node)).flops;
      p_.flops += flops;
      if (step.action == Program::Action::recompute) p_.recompute_flops += flops;
    }
  }

  size_t most_alive() const {
    const std::vector<size_t> timeline = memory_timeline(p_);
    return timeline.empty() ? 0 : std::ranges::max(timeline);
  }

  // Buffers have gaps between them: where the least recomputation by the bytes that are alive does
  // not fit in, it has to get by with fewer.
  void place_within_budget() {
    LeastRecomputation least_recomputation(p_.graph, order_,
                                           {scratch_, [this](const std::vector<int32_t>& runs) {
                                              place(runs);
                                              return most_alive();
                                            }});
    place(order_);
    const size_t persistent = p_.persistent_bytes;
    const size_t room = options_.budget > persistent ? options_.budget - persistent : 0;
    size_t aim = room;
    std::vector<int32_t> smallest;
    size_t least = SIZE_MAX;
    const auto try_runs = [&](std::vector<int32_t> runs) {
      place(std::move(runs));
      assign_offsets();
      if (p_.arena_bytes < least) {
        least = p_.arena_bytes;
        smallest = runs_;
      }
      return p_.arena_bytes <= room;
    };
    constexpr int kTries = 5;
    for (int attempt = 0; attempt < kTries; ++attempt) {
      if (try_runs(least_recomputation.within(aim))) return;
      if (p_.live_bytes > aim) break;  // there is nothing smaller
      aim = p_.live_bytes - (p_.arena_bytes - room);
    }
    if (!try_runs(cheap_runs())) try_runs(smallest);
  }

  std::vector<int32_t> cheap_runs() const {
    std::vector<int32_t> runs =
        with_recomputation(p_.graph, order_, cheaply_kept(p_.graph, order_));
    tidy(p_.graph, runs);
    return runs;
  }

  const Node& node(int32_t id) const { return p_.graph.node(id); }
  int32_t end() const { return static_cast<int32_t>(runs_.size()); }

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

  // `held`: the lives of the value that it is made for.
  int32_t add_buffer(Program::Kind kind, size_t bytes, std::string name,
                     const std::vector<Life>& held) {
    Program::Buffer& buffer =
        p_.buffers.emplace_back(Program::Buffer{kind, bytes, 0, std::move(name)});
    if (in_arena(buffer)) buffer.bytes = aligned_in_arena(bytes);
    held_.push_back(held);
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
      const Node& n = p_.graph.nodes()[i];
      const auto id = static_cast<int32_t>(i);
      p_.place[i].assign(n.outputs.size(), -1);
      if (!live_[i]) continue;
      if (is_leaf(n)) {
        const int32_t last = lives_->last_read(id, 0);
        const auto kind = n.op->name == "input" ? Program::Kind::input
                          : last < 0            ? Program::Kind::source
                                                : Program::Kind::param;
        p_.place[i][0] =
            add_buffer(kind, n.outputs[0].bytes(), n.attrs.as<NameAttrs>().name, {{-1, last}});
      } else if (p_.once[i]) {
        bool read = false;
        for (size_t k = 0; k < n.outputs.size(); ++k) read |= lives_->last_read(id, k) >= 0;
        const auto kind = read ? Program::Kind::derived : Program::Kind::passing;
        for (size_t k = 0; k < n.outputs.size(); ++k)
          p_.place[i][k] = add_buffer(kind, n.outputs[k].bytes(), derived_name(id, k), {});
      }
    }
    std::vector<bool> placed(count, false);
    for (const int32_t id : runs_) {
      if (!placed[static_cast<size_t>(id)]) place_node(id);
      placed[static_cast<size_t>(id)] = true;
    }
  }

  // For all its runs.
  void place_node(int32_t id) {
    const Node& n = node(id);
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const std::vector<Life>& lives = lives_->of(id, k);
      int32_t b = -1;
      if (n.op->view_of >= 0) {
        b = buffer_of(n.inputs[static_cast<size_t>(n.op->view_of)]);
      } else if (k < n.op->updates.size() && n.op->updates[k] >= 0) {
        b = buffer_of(n.inputs[static_cast<size_t>(n.op->updates[k])]);
      } else if (k == 0 && options_.in_place) {
        b = overwritable_input(id, lives);
      }
      if (b < 0) {
        b = add_buffer(Program::Kind::arena, n.outputs[k].bytes(), {}, lives);
      } else {
        auto& held = held_[static_cast<size_t>(b)];
        held.insert(held.end(), lives.begin(), lives.end());
      }
      p_.place[static_cast<size_t>(id)][k] = b;
    }
    if (const int64_t bytes = scratch_[static_cast<size_t>(id)]; bytes > 0) {
      std::vector<Life> lives;
      for (const Life& life : lives_->of(id, 0)) lives.push_back({life.first, life.first});
      p_.workspace[static_cast<size_t>(id)] =
          add_buffer(Program::Kind::workspace, static_cast<size_t>(bytes), {}, lives);
    }
  }

  // Steps: each run, followed by what dies with it.
  void write_steps() {
    std::vector<std::vector<int32_t>> dying(runs_.size() + 1);
    for (size_t b = 0; b < p_.buffers.size(); ++b) {
      auto& held = held_[b];
      if (!in_arena(p_.buffers[b])) continue;
      std::ranges::sort(held, {}, &Life::first);
      // A life that begins where another ends goes on in the same bytes.
      int32_t last = held[0].last;
      for (const Life& life : held) {
        if (life.first > last) dying[static_cast<size_t>(last)].push_back(static_cast<int32_t>(b));
        last = std::max(last, life.last);
      }
      dying[static_cast<size_t>(last)].push_back(static_cast<int32_t>(b));
    }
    std::vector<bool> ran(p_.graph.nodes().size(), false);
    for (size_t at = 0; at < runs_.size(); ++at) {
      const int32_t id = runs_[at];
      const bool again = ran[static_cast<size_t>(id)];
      ran[static_cast<size_t>(id)] = true;
      p_.steps.push_back({again ? Program::Action::recompute : Program::Action::run, id, -1});
      for (const int32_t b : dying[at]) p_.steps.push_back({Program::Action::free, -1, b});
    }
    for (size_t i = 0; i < p_.graph.assignments().size(); ++i) {
      const auto& [name, v] = p_.graph.assignments()[i];
      const Program::Buffer& b = p_.buffers[static_cast<size_t>(buffer_of(v))];
      if (b.kind != Program::Kind::param || b.name != name) {
        p_.steps.push_back({Program::Action::write, static_cast<int32_t>(i), -1});
      }
    }
    for (const int32_t b : dying.back()) p_.steps.push_back({Program::Action::free, -1, b});
  }

  int32_t overwritable_input(int32_t id, const std::vector<Life>& lives) const {
    const Node& n = node(id);
    const std::string* home = home_[static_cast<size_t>(id)];
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const Value v = n.inputs[i];
      if (!n.op->may_overwrite(i) || !v.valid() || p_.graph.type(v) != n.outputs[0]) continue;
      const int32_t b = buffer_of(v);
      const Program::Buffer& buffer = p_.buffers[static_cast<size_t>(b)];
      const bool ours = buffer.kind == Program::Kind::arena ||
                        (buffer.kind == Program::Kind::param && home && *home == buffer.name);
      if (!ours || !free_for(b, lives)) continue;
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

  // Whether nothing in a buffer is alive in any of these lives, but what is read as one begins.
  bool free_for(int32_t buffer, const std::vector<Life>& lives) const {
    for (const Life& there : held_[static_cast<size_t>(buffer)]) {
      for (const Life& life : lives) {
        if (there.last > life.first && there.first < life.last) return false;
        if (there.first == life.last) return false;
      }
    }
    return true;
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

  void count_persistent() {
    std::set<std::string> counted;  // several leaves of one name are one buffer
    for (const Program::Buffer& b : p_.buffers) {
      const bool persistent = b.kind == Program::Kind::input || b.kind == Program::Kind::param ||
                              b.kind == Program::Kind::derived;
      if (persistent && counted.insert(b.name).second) p_.persistent_bytes += b.bytes;
    }
  }

  PlanOptions options_;
  Program p_;
  std::vector<bool> live_;
  Scratch scratch_;
  std::vector<int32_t> order_;  // nodes
  std::vector<int32_t> runs_;   // some of them more than once
  std::optional<Lives> lives_;
  std::map<Value, std::string> derived_names_;
  std::vector<const std::string*> home_;  // [node]: the parameter that output 0 becomes; or null
  std::vector<std::vector<Life>> held_;   // [buffer]: the lives of all that stands in it
};

}  // namespace

Program plan(const Graph& graph, const PlanOptions& options) {
  return Planner(graph, options).run();
}

}  // namespace graft
