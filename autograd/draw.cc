#include "autograd/draw.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "autograd/draw_folding.h"
#include "autograd/draw_labels.h"
#include "autograd/op.h"
#include "core/error.h"

namespace graft {
namespace {

// A module of one phase: what stands in it, in the order of the graph.
struct Module {
  std::string name;
  std::vector<int32_t> items;
  std::vector<std::unique_ptr<Module>> children;
  std::vector<std::pair<bool, size_t>> order;  // (is a child, index)

  Module& child(const std::string& child_name) {
    for (const auto& c : children) {
      if (c->name == child_name) return *c;
    }
    order.emplace_back(true, children.size());
    children.push_back(std::make_unique<Module>());
    children.back()->name = child_name;
    return *children.back();
  }
  void collect(std::set<int32_t>& all) const {
    all.insert(items.begin(), items.end());
    for (const auto& c : children) c->collect(all);
  }
};

class Drawing {
 public:
  Drawing(const Graph& graph, const Delta& delta, const DrawOptions& options)
      : graph_(graph),
        options_(options),
        change_(draw::changes_of(graph, delta)),
        rewired_(delta.rewired.begin(), delta.rewired.end()) {
    std::vector<bool> drawn;
    for (const Node& n : graph_.nodes()) {
      const bool view = n.op->view_of >= 0 && options_.detail == Detail::blocks;
      drawn.push_back(n.op->name != "param" && !view);
    }
    if (options_.detail == Detail::blocks) {
      folding_ = draw::fold_alike(graph_, delta, drawn);
    } else {
      folding_.box.assign(graph_.nodes().size(), -1);
    }
    drawn_ = std::move(drawn);
  }

  std::string dot() {
    place_items();
    collect_edges();
    text_ =
        "digraph graft {\n"
        "  graph [rankdir=TB, fontname=\"Helvetica\", fontsize=12, labelloc=t, nodesep=0.25, "
        "ranksep=0.3, style=rounded, color=\"#c9c9c9\", bgcolor=white];\n"
        "  node [fontname=\"Helvetica\", fontsize=11, shape=plain];\n"
        "  edge [fontname=\"Helvetica\", fontsize=8, fontcolor=\"#6b6b6b\", color=\"#6b6b6b\", "
        "arrowsize=0.6];\n";
    text_ += fmt::format("  label={};\n", draw::legend(options_.title, occurring()));
    for (const auto& [phase, module] : phases_) {
      // One phase alone needs no frame.
      if (phases_.size() > 1) {
        text_ += fmt::format(
            "  subgraph cluster_{} {{\n    label=<<B>{}</B>>; style=\"rounded,filled\"; "
            "fillcolor=\"{}\";\n",
            name_of(phase), name_of(phase), draw::shade(phase));
      }
      emit(module, phases_.size() > 1 ? 4 : 2, std::string(name_of(phase)), "", "");
      if (phases_.size() > 1) text_ += "  }\n";
    }
    for (const Edge& e : edges_) emit_edge(e);
    return text_ + "}\n";
  }

 private:
  // ---- what stands where. Items are nodes and, numbered behind them, boxes.
  int32_t item_of(int32_t node) const {
    const int32_t box = folding_.box[static_cast<size_t>(node)];
    return box < 0 ? node : static_cast<int32_t>(drawn_.size()) + box;
  }
  const draw::Box* box_at(int32_t item) const {
    const auto i = static_cast<size_t>(item);
    return i < drawn_.size() ? nullptr : &folding_.boxes[i - drawn_.size()];
  }
  std::string id_of(int32_t item) const {
    const auto i = static_cast<size_t>(item);
    return i < drawn_.size() ? fmt::format("n{}", i) : fmt::format("box{}", i - drawn_.size());
  }

  void place_items() {
    std::set<int32_t> placed;
    for (size_t i = 0; i < drawn_.size(); ++i) {
      if (!drawn_[i]) continue;
      const int32_t item = item_of(static_cast<int32_t>(i));
      if (!placed.insert(item).second) continue;
      const Node& n = graph_.nodes()[i];
      std::vector<std::string> path;  // of inputs: none, they belong to the whole
      if (const draw::Box* box = box_at(item); box != nullptr) {
        path = box->path;
      } else if (n.op->name != "input") {
        path = draw::path_of(n.scope);
      }
      Module* module = &phases_[n.phase];
      for (const std::string& name : path) module = &module->child(name);
      module->order.emplace_back(false, module->items.size());
      module->items.push_back(item);
    }
  }

  // What computes v, views that are not drawn looked through.
  Value source(Value v) const {
    while (v.valid() && !drawn_[static_cast<size_t>(v.node)] &&
           graph_.node(v.node).op->view_of >= 0) {
      const Node& n = graph_.node(v.node);
      v = n.inputs[static_cast<size_t>(n.op->view_of)];
    }
    return v;
  }
  bool is_param(Value v) const { return v.valid() && graph_.node(v.node).op->name == "param"; }
  const Param* param_at(Value v) const {
    v = source(v);
    return is_param(v) ? graph_.find_param(graph_.node(v.node).attrs.as<NameAttrs>().name)
                       : nullptr;
  }

  // ---- edges
  struct Edge {
    std::string from, to, label;
    Phase from_phase, to_phase;
    bool rewired = false;
  };

  void collect_edges() {
    readers_.resize(drawn_.size() + folding_.boxes.size());
    for (size_t i = 0; i < drawn_.size(); ++i) {
      if (!drawn_[i]) continue;
      const Node& n = graph_.nodes()[i];
      const int32_t to = item_of(static_cast<int32_t>(i));
      for (size_t k = 0; k < n.inputs.size(); ++k) {
        const Use use{static_cast<int32_t>(i), static_cast<int32_t>(k)};
        const Value from = source(n.inputs[k]);
        // A parameter stands in its readers.
        if (!from.valid() || is_param(from) || item_of(from.node) == to) continue;
        readers_[static_cast<size_t>(item_of(from.node))].push_back(to);
        edge(from, n.inputs[k], id_of(to), n.phase).rewired |= reads_anew(use);
      }
    }
    for (size_t i = 0; i < graph_.outputs().size(); ++i) {
      const auto& [name, v] = graph_.outputs()[i];
      const Value from = source(v);
      if (is_param(from)) continue;
      // What blocks drawn as one box give is what the block drawn for them gives.
      const draw::Box* box = box_at(item_of(from.node));
      const std::string path = name.substr(name.rfind('/') + 1);
      if (box != nullptr && !box->family.empty() && path.starts_with(box->family + ".")) continue;
      results_[item_of(from.node)].push_back(i);
      edge(from, v, fmt::format("out{}", i), graph_.node(from.node).phase);
    }
  }

  // Whether a rewrite changed what an operand reads, or what the views below it do.
  bool reads_anew(Use use) const {
    while (true) {
      if (rewired_.contains(use)) return true;
      const Value v = graph_.node(use.node).inputs[static_cast<size_t>(use.input)];
      const Node& n = graph_.node(v.node);
      if (drawn_[static_cast<size_t>(v.node)] || n.op->view_of < 0) return false;
      use = {v.node, n.op->view_of};
    }
  }

  Edge& edge(Value from, Value read, const std::string& to, Phase to_phase) {
    const std::string id = id_of(item_of(from.node));
    const auto [it, fresh] = edge_at_.try_emplace({id, to}, edges_.size());
    if (fresh) {
      // A value that several read says its shape once.
      const Phase from_phase = graph_.node(from.node).phase;
      std::string label = draw::short_type(graph_.type(read));
      const bool said = from_phase != to_phase || !labels_.insert({id, label}).second;
      if (said && options_.detail == Detail::blocks) label.clear();
      edges_.push_back({id, to, std::move(label), from_phase, to_phase});
    }
    return edges_[it->second];
  }

  void emit_edge(const Edge& e) {
    std::string style;
    if (e.rewired) style += fmt::format(", color=\"{}\", penwidth=2.2", draw::kRewired);
    if (e.from_phase != e.to_phase)
      style += fmt::format(", style=dashed, color=\"{}\"", draw::kKept);
    // Backward runs upwards, so that it stands beside the forward values that it reads.
    const bool up = e.from_phase == Phase::backward && e.to_phase == Phase::backward;
    text_ += fmt::format("  {} -> {} [label=\"{}\"{}{}];\n", up ? e.to : e.from, up ? e.from : e.to,
                         e.label, up ? ", dir=back" : "", style);
  }

  // ---- modules and nodes. `path`: of the module; `shown`: of the frame around it.
  void emit(const Module& module, size_t indent, const std::string& id, const std::string& path,
            const std::string& shown) {
    const std::string margin(indent, ' ');
    const auto emit_items = [&](const std::vector<int32_t>& items) {
      for (int32_t item : items) {
        text_ += fmt::format("{}{} {};\n", margin, id_of(item), describe(item, shown));
        const auto results = results_.find(item);
        if (results == results_.end()) continue;
        for (size_t i : results->second)
          text_ += fmt::format("{}out{} {};\n", margin, i,
                               draw::result_label(graph_.outputs()[i].first, shown));
      }
    };
    for (const auto& [is_child, at] : module.order) {
      if (!is_child) {
        emit_items({module.items[at]});
        continue;
      }
      const Module* child = module.children[at].get();
      std::string inner = path.empty() ? child->name : path + "." + child->name;
      // One that only holds another one, and boxes for its likes, shares that one's frame.
      while (child->children.size() == 1 &&
             std::ranges::all_of(child->items, [&](int32_t i) { return box_at(i) != nullptr; })) {
        emit_items(child->items);
        child = child->children[0].get();
        inner += "." + child->name;
      }
      const std::string inner_id = fmt::format("{}_{}", id, at);
      if (!worth_a_frame(*child)) {
        emit(*child, indent, inner_id, inner, shown);
        continue;
      }
      text_ += fmt::format("{}subgraph cluster_{} {{\n{}  label={};\n", margin, inner_id, margin,
                           draw::quoted(draw::relative(inner, shown)));
      emit(*child, indent + 2, inner_id, inner, inner);
      text_ += margin + "}\n";
    }
  }

  // A frame around one thing says nothing. A frame that the flow leaves and enters again (around
  // projections before attention and after it) pulls apart what belongs together.
  bool worth_a_frame(const Module& module) const {
    std::set<int32_t> inside;
    module.collect(inside);
    return inside.size() > 1 && !draw::returns(inside, readers_);
  }

  std::string describe(int32_t item, const std::string& shown) const {
    if (const draw::Box* box = box_at(item); box != nullptr) return draw::label(*box, shown);
    std::vector<const Param*> params;
    for (const Value v : graph_.node(item).inputs) {
      if (const Param* p = param_at(v); p != nullptr) params.push_back(p);
    }
    return draw::label(graph_.node(item), change_[static_cast<size_t>(item)], params,
                       options_.detail, shown);
  }

  draw::Occurs occurring() const {
    draw::Occurs o;
    for (const Param& p : graph_.params()) (p.trainable ? o.trainable : o.frozen) = true;
    for (draw::Change c : change_) {
      o.added |= c == draw::Change::added;
      o.reparametrized |= c == draw::Change::reparametrized;
    }
    for (const Edge& e : edges_) {
      o.rewired |= e.rewired;
      o.kept |= e.from_phase != e.to_phase;
    }
    return o;
  }

  const Graph& graph_;
  const DrawOptions& options_;
  std::vector<draw::Change> change_;
  std::set<Use> rewired_;
  std::vector<bool> drawn_;
  draw::Folding folding_;
  std::map<Phase, Module> phases_;
  std::vector<Edge> edges_;
  std::map<std::pair<std::string, std::string>, size_t> edge_at_;
  std::set<std::pair<std::string, std::string>> labels_;  // (source, shape) that stand somewhere
  std::map<int32_t, std::vector<size_t>> results_;        // [item]
  std::vector<std::vector<int32_t>> readers_;             // [item]
  std::string text_;
};

}  // namespace

Detail detail_of(std::string_view name) {
  if (name == "blocks") return Detail::blocks;
  if (name == "all") return Detail::all;
  throw UsageError("there is no detail '{}'; known: blocks, all", name);
}

std::string to_text(const Graph& graph, const Delta& delta) {
  const std::set<std::string> new_params(delta.new_params.begin(), delta.new_params.end());
  const std::set<int32_t> added(delta.added.begin(), delta.added.end());
  std::set<int32_t> rewired;
  for (const Use& u : delta.rewired) rewired.insert(u.node);
  return to_text(graph, [&](const Param* p, int32_t node) {
    if (p != nullptr ? new_params.contains(p->name) : added.contains(node)) return "+ ";
    return rewired.contains(node) ? "~ " : "  ";
  });
}

std::string to_dot(const Graph& graph, const Delta& delta, const DrawOptions& options) {
  return Drawing(graph, delta, options).dot();
}

}  // namespace graft
