#include "autograd/draw_folding.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <optional>

#include "autograd/op.h"

namespace graft::draw {
namespace {

std::optional<int64_t> number(const std::string& name) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), n);
  const bool whole = error == std::errc() && end == name.data() + name.size();
  return whole && !name.empty() ? std::optional(n) : std::nullopt;
}

class Folder {
 public:
  Folder(const Graph& graph, const Delta& delta, const std::vector<bool>& drawn)
      : graph_(graph),
        drawn_(drawn),
        rewritten_(!delta.added.empty() || !delta.new_params.empty() || !delta.unfrozen.empty() ||
                   !delta.frozen.empty()),
        change_(changes_of(graph, delta)),
        rewired_(delta.rewired.begin(), delta.rewired.end()) {
    result_.box.assign(graph.nodes().size(), -1);
    readers_.resize(graph.nodes().size());
    for (size_t i = 0; i < graph.nodes().size(); ++i) {
      paths_.push_back(path_of(graph.nodes()[i].scope));
      for (const Value v : graph.nodes()[i].inputs) {
        if (v.valid()) readers_[static_cast<size_t>(v.node)].push_back(static_cast<int32_t>(i));
      }
    }
  }

  Folding run() {
    size_t deepest = 0;
    for (const auto& path : paths_) deepest = std::max(deepest, path.size());
    for (size_t depth = 0; depth < deepest; ++depth) fold_equal(depth);
    if (rewritten_) fold_unchanged({}, 0);
    return std::move(result_);
  }

 private:
  // Equal blocks next to each other.
  struct Run {
    int64_t first = 0, last = 0;
    std::vector<int32_t> head, rest;  // nodes of the first block, of the others
    size_t others = 0;                // blocks
  };

  // Blocks are modules that are called by a number: P.0, P.1, ...
  void fold_equal(size_t depth) {
    std::map<std::string, std::map<int64_t, std::vector<int32_t>>> families;
    for (size_t i = 0; i < paths_.size(); ++i) {
      if (is_leaf(i) || result_.box[i] >= 0 || paths_[i].size() <= depth) continue;
      const auto n = number(paths_[i][depth]);
      if (n) families[join(paths_[i], 0, depth)][*n].push_back(static_cast<int32_t>(i));
    }
    for (const auto& [family, blocks] : families) {
      std::vector<Run> runs;
      std::string before;
      for (const auto& [n, nodes] : blocks) {
        std::string text = signature(nodes, depth);
        if (text == before) {
          runs.back().rest.insert(runs.back().rest.end(), nodes.begin(), nodes.end());
          ++runs.back().others;
        } else {
          runs.push_back({.first = n, .head = nodes});
          before = std::move(text);
        }
        runs.back().last = n;
      }
      for (const Run& run : runs) {
        if (run.others > 0) add_run(family, run);
      }
    }
  }

  // One box in place of the others; of all, where the rewrite left them alone.
  void add_run(const std::string& family, const Run& run) {
    const std::string prefix = family.empty() ? "" : family + ".";
    std::vector<int32_t> nodes = run.rest;
    const bool unchanged =
        rewritten_ && std::ranges::all_of(run.head, [&](int32_t id) { return as_before(id); });
    if (unchanged) nodes.insert(nodes.end(), run.head.begin(), run.head.end());
    Box box{.path = path_of(family), .modules = run.others + unchanged};
    const int64_t first = unchanged ? run.first : run.first + 1;
    box.title = first == run.last ? fmt::format("{}{}", prefix, first)
                                  : fmt::format("{}{} \u2026 {}", prefix, first, run.last);
    if (!unchanged) {
      box.same_as = fmt::format("{}{}", prefix, run.first);
      box.family = family;
    }
    std::map<Phase, std::vector<int32_t>> by_phase;
    for (int32_t id : nodes) by_phase[graph_.node(id).phase].push_back(id);
    for (const auto& [phase, part] : by_phase) {
      box.phase = phase;
      add(box, part);
    }
  }

  // Attributes without those that say which part of something shared a block has: of a stream of
  // random numbers, of a table for all blocks, of a list of indices.
  static std::string alike(std::string attrs) {
    for (std::string_view field : {"stream=", "start=", "offset="}) {
      const size_t from = attrs.find(field);
      if (from != std::string::npos) attrs.erase(from, attrs.find(',', from) - from);
    }
    return attrs;
  }

  // Everything that a reader of the picture could tell two blocks apart by, in their own numbers.
  std::string signature(const std::vector<int32_t>& nodes, size_t depth) const {
    std::map<int32_t, size_t> place;
    for (size_t i = 0; i < nodes.size(); ++i) place[nodes[i]] = i;
    const auto& path = paths_[static_cast<size_t>(nodes[0])];
    std::string text;
    for (int32_t id : nodes) {
      const Node& n = graph_.node(id);
      const auto at = static_cast<size_t>(id);
      text += fmt::format("{} {} {{{}}} {} {}", name_of(n.phase), n.op->name, alike(n.attrs.str()),
                          join(paths_[at], depth + 1, paths_[at].size()),
                          static_cast<int>(change_[at]));
      for (const Type& t : n.outputs) text += " " + t.str();
      for (size_t k = 0; k < n.inputs.size(); ++k) {
        const Value v = n.inputs[k];
        const bool rewired = rewired_.contains({id, static_cast<int32_t>(k)});
        text += (rewired ? " ~" : " ") + operand(v, place, path, depth);
      }
      text += "\n";
    }
    return text;
  }

  // `path` as far as `depth`: the block that reads it.
  std::string operand(Value v, const std::map<int32_t, size_t>& place,
                      const std::vector<std::string>& path, size_t depth) const {
    if (!v.valid()) return "-";
    if (const auto it = place.find(v.node); it != place.end())
      return fmt::format("%{}.{}", it->second, v.output);
    if (const Param* p = param_at(v); p != nullptr) {
      const std::string own = join(path, 0, depth + 1) + ".";
      const bool inside = p->name.starts_with(own);
      return fmt::format("{}{} {} {}", inside ? "." : "",
                         inside ? p->name.substr(own.size()) : p->name, p->type.str(),
                         p->trainable);
    }
    // The next block of the chain is as good as what stands at its end; a farther one is not.
    const auto& from = paths_[static_cast<size_t>(v.node)];
    if (from.size() > depth && std::equal(from.begin(), from.begin() + depth, path.begin())) {
      const auto here = number(path[depth]), there = number(from[depth]);
      if (here && there && std::abs(*here - *there) > 1)
        return fmt::format("from block {:+}", *there - *here);
    }
    return "from outside";
  }

  // The widest modules below `path` of which the rewrite changed nothing.
  void fold_unchanged(const std::vector<std::string>& path, size_t depth) {
    std::map<std::string, std::vector<int32_t>> children;
    for (size_t i = 0; i < paths_.size(); ++i) {
      const auto& p = paths_[i];
      const bool below = p.size() > depth && std::equal(path.begin(), path.end(), p.begin());
      if (below && !is_leaf(i) && result_.box[i] < 0 && graph_.nodes()[i].phase == Phase::forward)
        children[p[depth]].push_back(static_cast<int32_t>(i));
    }
    for (const auto& [name, nodes] : children) {
      std::vector<std::string> child = path;
      child.push_back(name);
      // A box for two nodes would save nothing.
      const auto drawn = std::ranges::count_if(
          nodes, [&](int32_t id) { return bool{drawn_[static_cast<size_t>(id)]}; });
      const bool unchanged =
          drawn > 2 && std::ranges::all_of(nodes, [&](int32_t id) { return as_before(id); });
      if (unchanged && !returns({nodes.begin(), nodes.end()}, readers_)) {
        Box box{.path = path, .title = join(child, 0, child.size())};
        add(std::move(box), nodes);
      } else {
        fold_unchanged(child, depth + 1);
      }
    }
  }

  bool as_before(int32_t id) const {
    const Node& n = graph_.node(id);
    if (change_[static_cast<size_t>(id)] != Change::none) return false;
    for (size_t k = 0; k < n.inputs.size(); ++k) {
      if (rewired_.contains({id, static_cast<int32_t>(k)})) return false;
      const Param* p = param_at(n.inputs[k]);
      if (p != nullptr && p->trainable) return false;
    }
    return true;
  }

  void add(Box box, const std::vector<int32_t>& nodes) {
    std::set<const Param*> params;
    for (int32_t id : nodes) {
      result_.box[static_cast<size_t>(id)] = static_cast<int32_t>(result_.boxes.size());
      box.nodes += drawn_[static_cast<size_t>(id)];
      for (const Value v : graph_.node(id).inputs) {
        if (const Param* p = param_at(v); p != nullptr) params.insert(p);
      }
    }
    for (const Param* p : params)
      (p->trainable ? box.trainable : box.frozen) += p->type.shape.elements();
    result_.boxes.push_back(std::move(box));
  }

  const Param* param_at(Value v) const {
    const bool leaf = v.valid() && graph_.node(v.node).op->name == "param";
    return leaf ? graph_.find_param(graph_.node(v.node).attrs.as<NameAttrs>().name) : nullptr;
  }
  bool is_leaf(size_t i) const {
    const auto op = graph_.nodes()[i].op->name;
    return op == "param" || op == "input";
  }

  const Graph& graph_;
  const std::vector<bool>& drawn_;
  const bool rewritten_;
  std::vector<Change> change_;
  std::set<Use> rewired_;
  std::vector<std::vector<std::string>> paths_;
  std::vector<std::vector<int32_t>> readers_;
  Folding result_;
};

}  // namespace

std::vector<Change> changes_of(const Graph& graph, const Delta& delta) {
  std::vector<Change> change(graph.nodes().size(), Change::none);
  // The gradient is all new; its own shade says so.
  for (int32_t id : delta.added) {
    if (graph.node(id).phase == Phase::forward) change[static_cast<size_t>(id)] = Change::added;
  }
  for (const Mark& m : graph.marks(Role::reparametrized)) {
    if (graph.node(m.value.node).op->name != "param")
      change[static_cast<size_t>(m.value.node)] = Change::reparametrized;
  }
  return change;
}

std::vector<std::string> path_of(std::string_view scope) {
  std::vector<std::string> path;
  for (size_t from = 0; !scope.empty() && from <= scope.size();) {
    const size_t to = std::min(scope.find('.', from), scope.size());
    path.emplace_back(scope.substr(from, to - from));
    from = to + 1;
  }
  return path;
}

std::string join(const std::vector<std::string>& path, size_t from, size_t to) {
  std::string text;
  for (size_t i = from; i < to; ++i) text += (i > from ? "." : "") + path[i];
  return text;
}

bool returns(const std::set<int32_t>& inside, const std::vector<std::vector<int32_t>>& readers) {
  std::vector<int32_t> open(inside.begin(), inside.end());
  std::vector<bool> seen(readers.size(), false);
  while (!open.empty()) {
    const int32_t at = open.back();
    open.pop_back();
    const bool outside = !inside.contains(at);
    for (int32_t to : readers[static_cast<size_t>(at)]) {
      if (inside.contains(to)) {
        if (outside) return true;
      } else if (!seen[static_cast<size_t>(to)]) {
        seen[static_cast<size_t>(to)] = true;
        open.push_back(to);
      }
    }
  }
  return false;
}

Folding fold_alike(const Graph& graph, const Delta& delta, const std::vector<bool>& drawn) {
  return Folder(graph, delta, drawn).run();
}

}  // namespace graft::draw
