#include "autograd/draw.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "autograd/draw_folding.h"
#include "autograd/op.h"
#include "core/error.h"

namespace graft {
namespace {

constexpr std::string_view kFrozen = "#e3e3e3", kTrainable = "#a6dba0", kAdded = "#e3f4de",
                           kAddedBorder = "#1b7837", kReparametrized = "#fdd0a2",
                           kReparametrizedBorder = "#d95f0e", kRewired = "#d95f0e",
                           kBorder = "#8a8a8a", kQuiet = "#6b6b6b";

std::string_view shade(Phase phase) {
  return phase == Phase::forward ? "#fbfbfb" : phase == Phase::backward ? "#e8f1fa" : "#f1ebf7";
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// Floats go without their type: nearly everything is f32.
std::string short_type(const Type& t) { return t.dtype == DType::f32 ? t.shape.str() : t.str(); }

// 1234567 -> "1.23M"
std::string short_count(int64_t n) {
  const auto x = static_cast<double>(n);
  if (n >= 1'000'000'000) return fmt::format("{:.3g}G", x / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.3g}M", x / 1e6);
  if (n >= 10'000) return fmt::format("{:.3g}k", x / 1e3);
  return fmt::format("{}", n);
}

std::string quiet(std::string_view text) {
  return fmt::format("<FONT POINT-SIZE=\"9\" COLOR=\"{}\">{}</FONT>", kQuiet, escaped(text));
}

// The modules of one phase: what stands in each, in the order of the graph.
struct Module {
  std::string name;
  std::vector<std::string> items;  // DOT ids
  std::vector<std::unique_ptr<Module>> children;
  std::vector<std::pair<size_t, size_t>> order;  // (0, item) or (1, child), as they came

  Module& child(const std::string& child_name) {
    for (const auto& c : children) {
      if (c->name == child_name) return *c;
    }
    order.emplace_back(1, children.size());
    children.push_back(std::make_unique<Module>());
    children.back()->name = child_name;
    return *children.back();
  }
  size_t count() const {
    size_t n = items.size();
    for (const auto& c : children) n += c->count();
    return n;
  }
};

class Drawing {
 public:
  Drawing(const Graph& graph, const Delta& delta, const DrawOptions& options)
      : graph_(graph),
        options_(options),
        change_(changes_of(graph, delta)),
        rewired_(delta.rewired.begin(), delta.rewired.end()) {
    std::vector<bool> drawn;
    for (const Node& n : graph_.nodes()) {
      const bool view = n.op->view_of >= 0 && options_.detail == Detail::blocks;
      drawn.push_back(n.op->name != "param" && !view);
    }
    if (options_.detail == Detail::blocks) {
      folding_ = fold_alike(graph_, delta, drawn);
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
    text_ += fmt::format("  label={};\n", legend());
    for (const auto& [phase, module] : phases_) {
      // One phase alone needs no frame.
      if (phases_.size() > 1) {
        text_ += fmt::format(
            "  subgraph cluster_{} {{\n    label=<<B>{}</B>>; style=\"rounded,filled\"; "
            "fillcolor=\"{}\";\n",
            name_of(phase), name_of(phase), shade(phase));
      }
      emit(module, phases_.size() > 1 ? 4 : 2, std::string(name_of(phase)), {});
      if (phases_.size() > 1) text_ += "  }\n";
    }
    for (size_t i = 0; i < graph_.outputs().size(); ++i) {
      text_ += fmt::format("  out{} [label=\"{}\", shape=ellipse, penwidth=1.5];\n", i,
                           graph_.outputs()[i].first);
    }
    for (size_t i = 0; i < edges_.size(); ++i) emit_edge(i);
    return text_ + "}\n";
  }

 private:
  // ---- what stands where
  void place_items() {
    std::set<int32_t> placed;
    for (size_t i = 0; i < drawn_.size(); ++i) {
      if (!drawn_[i]) continue;
      const Node& n = graph_.nodes()[i];
      const int32_t box = folding_.box[i];
      if (box >= 0 && !placed.insert(box).second) continue;
      const auto path = box >= 0                ? folding_.boxes[static_cast<size_t>(box)].path
                        : n.op->name == "input" ? std::vector<std::string>{}
                                                : path_of(n.scope);
      Module* module = &phases_[n.phase];
      for (const std::string& name : path) module = &module->child(name);
      module->order.emplace_back(0, module->items.size());
      module->items.push_back(id_of(static_cast<int32_t>(i)));
      if (box < 0) node_of_[module->items.back()] = static_cast<int32_t>(i);
    }
  }

  std::string id_of(int32_t node) const {
    const int32_t box = folding_.box[static_cast<size_t>(node)];
    return box >= 0 ? fmt::format("box{}", box) : fmt::format("n{}", node);
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
  const Param* param_at(Value v) const {
    v = source(v);
    const bool leaf = v.valid() && graph_.node(v.node).op->name == "param";
    return leaf ? graph_.find_param(graph_.node(v.node).attrs.as<NameAttrs>().name) : nullptr;
  }

  // ---- edges
  struct Edge {
    std::string from, to, label;
    bool rewired = false, kept = false;  // kept: backward reads a value of forward
  };

  void collect_edges() {
    for (size_t i = 0; i < drawn_.size(); ++i) {
      if (!drawn_[i]) continue;
      const Node& n = graph_.nodes()[i];
      for (size_t k = 0; k < n.inputs.size(); ++k) {
        const bool rewired = rewired_.contains({static_cast<int32_t>(i), static_cast<int32_t>(k)});
        connect(n.inputs[k], id_of(static_cast<int32_t>(i)), n.phase, rewired);
      }
    }
    for (size_t i = 0; i < graph_.outputs().size(); ++i)
      connect(graph_.outputs()[i].second, fmt::format("out{}", i), Phase::update, false);
  }

  void connect(Value v, const std::string& to, Phase phase, bool rewired) {
    const Value from = source(v);
    // A parameter stands in its readers; what it would be an edge to is a result without a node.
    if (!from.valid() || param_at(v) != nullptr) return;
    const std::string id = id_of(from.node);
    if (id == to) return;
    const bool kept = to[0] != 'o' && graph_.node(from.node).phase < phase;
    const auto [it, fresh] = edge_at_.try_emplace({id, to}, edges_.size());
    if (fresh) edges_.push_back({id, to, short_type(graph_.type(v)), false, kept});
    edges_[it->second].rewired = edges_[it->second].rewired || rewired;
  }

  void emit_edge(size_t i) {
    const Edge& e = edges_[i];
    std::string style;
    if (e.rewired) style = fmt::format(", color=\"{}\", penwidth=2.2", kRewired);
    if (e.kept) style += ", style=dashed, color=\"#7aa6d1\"";
    text_ += fmt::format("  {} -> {} [label=\"{}\"{}];\n", e.from, e.to, e.label, style);
  }

  // ---- modules and nodes
  void emit(const Module& module, size_t indent, const std::string& id, std::string path) {
    const std::string margin(indent, ' ');
    for (const auto& [kind, at] : module.order) {
      if (kind == 0) {
        emit_item(module.items[at], margin, path);
        continue;
      }
      // A module of one thing is not worth a frame; one that only holds another shares its frame.
      const Module* child = module.children[at].get();
      std::string name = child->name;
      while (child->items.empty() && child->children.size() == 1) {
        child = child->children[0].get();
        name += "." + child->name;
      }
      const std::string inner = id + "_" + std::to_string(at);
      const std::string whole = path.empty() ? name : path + "." + name;
      if (child->count() == 1) {
        emit(*child, indent, inner, path);
        continue;
      }
      text_ +=
          fmt::format("{}subgraph cluster_{} {{\n{}  label=\"{}\";\n", margin, inner, margin, name);
      emit(*child, indent + 2, inner, whole);
      text_ += margin + "}\n";
    }
  }

  void emit_item(const std::string& id, const std::string& margin, const std::string& path) {
    const auto it = node_of_.find(id);
    if (it == node_of_.end()) {
      const Box& box = folding_.boxes[static_cast<size_t>(std::stoi(id.substr(3)))];
      text_ += fmt::format("{}{} {};\n", margin, id, describe(box));
    } else {
      text_ += fmt::format("{}{} {};\n", margin, id, describe(it->second, path));
    }
  }

  std::string describe(const Box& box) const {
    std::string numbers;
    if (box.trainable > 0) numbers += fmt::format("{} trainable, ", short_count(box.trainable));
    numbers += fmt::format("{} frozen", short_count(box.frozen));
    if (box.frozen == 0 && box.trainable == 0) numbers = fmt::format("{} nodes", box.nodes);
    const std::string line =
        box.same_as.empty() ? "as before" : fmt::format("×{} as {}", box.modules, box.same_as);
    return fmt::format(
        "[shape={}, style=filled, margin=\"0.15,0.08\", color=\"{}\", fillcolor=\"{}\", "
        "label=<<B>{}</B><BR/>{}<BR/>{}>]",
        box.same_as.empty() ? "box" : "box3d", box.trainable > 0 ? kAddedBorder : kBorder,
        box.trainable > 0 ? kAdded : kFrozen, escaped(box.title), quiet(line), quiet(numbers));
  }

  std::string describe(int32_t id, const std::string& path) const {
    const Node& n = graph_.node(id);
    if (n.op->name == "input") {
      return fmt::format("[shape=ellipse, margin=\"0.05,0.02\", color=\"{}\", label=\"{}\"]",
                         kBorder, n.attrs.as<NameAttrs>().name);
    }
    std::vector<std::string> cells;
    for (const Value v : n.inputs) {
      if (const Param* p = param_at(v); p != nullptr) cells.push_back(cell(*p, n.scope));
    }
    const Change change = change_[static_cast<size_t>(id)];
    std::string_view fill = n.phase == Phase::forward ? "white" : shade(n.phase), border = kBorder;
    if (change == Change::added) fill = kAdded, border = kAddedBorder;
    if (change == Change::reparametrized) fill = kReparametrized, border = kReparametrizedBorder;
    std::string label = fmt::format("<B>{}</B>", n.op->name);
    if (const std::string a = attributes(n); !a.empty()) label += " " + quiet(a);
    if (const std::string where = relative(n.scope, path); !where.empty())
      label += "<BR/>" + quiet(where);
    std::string rows = fmt::format("<TR><TD COLSPAN=\"{}\" BGCOLOR=\"{}\">{}</TD></TR>",
                                   std::max<size_t>(cells.size(), 1), fill, label);
    if (!cells.empty()) {
      rows += "<TR>";
      for (const std::string& c : cells) rows += c;
      rows += "</TR>";
    }
    return fmt::format(
        "[label=<<TABLE BORDER=\"0\" CELLBORDER=\"1\" CELLSPACING=\"0\" CELLPADDING=\"3\" "
        "COLOR=\"{}\">{}</TABLE>>]",
        border, rows);
  }

  static std::string relative(const std::string& scope, const std::string& path) {
    if (scope == path) return {};
    return !path.empty() && scope.starts_with(path + ".") ? scope.substr(path.size() + 1) : scope;
  }

  static std::string cell(const Param& p, const std::string& scope) {
    return fmt::format(
        "<TD BGCOLOR=\"{}\">{} {}</TD>", p.trainable ? kTrainable : kFrozen,
        fmt::format("<FONT POINT-SIZE=\"9\">{}</FONT>", escaped(relative(p.name, scope))),
        quiet(short_type(p.type)));
  }

  std::string attributes(const Node& n) const {
    const std::string& all = n.attrs.str();
    if (options_.detail == Detail::all) return all;
    for (std::string_view key : {"value=", "p="}) {
      if (all.starts_with(key))
        return all.substr(key.size(), all.find(',', key.size()) - key.size());
    }
    return {};
  }

  // The title, and below it what the colors mean, as far as they occur.
  std::string legend() const {
    const auto any_param = [&](bool trainable) {
      return std::ranges::any_of(graph_.params(),
                                 [&](const Param& p) { return p.trainable == trainable; });
    };
    const auto any = [&](Change c) { return std::ranges::find(change_, c) != change_.end(); };
    std::vector<std::string> cells;
    const auto add = [&](bool used, std::string_view fill, std::string_view text) {
      if (!used) return;
      cells.push_back(
          fmt::format("<TD BGCOLOR=\"{}\"><FONT POINT-SIZE=\"9\">{}</FONT></TD>", fill, text));
    };
    add(any_param(false), kFrozen, "frozen");
    add(any_param(true), kTrainable, "trainable");
    add(any(Change::added), kAdded, "added");
    add(any(Change::reparametrized), kReparametrized, "in place of a weight");
    if (cells.empty() && options_.title.empty()) return "\"\"";
    std::string text = fmt::format(
        "<<TABLE BORDER=\"0\" CELLBORDER=\"1\" CELLSPACING=\"3\" COLOR=\"{}\">", kBorder);
    if (!options_.title.empty()) {
      text += fmt::format("<TR><TD BORDER=\"0\" COLSPAN=\"{}\"><B>{}</B></TD></TR>",
                          std::max<size_t>(cells.size(), 1), escaped(options_.title));
    }
    if (!cells.empty()) text += fmt::format("<TR>{}</TR>", fmt::join(cells, ""));
    return text + "</TABLE>>";
  }

  const Graph& graph_;
  const DrawOptions& options_;
  std::vector<Change> change_;
  std::set<Use> rewired_;
  std::vector<bool> drawn_;
  Folding folding_;
  std::map<Phase, Module> phases_;
  std::map<std::string, int32_t> node_of_;  // of what is not a box
  std::vector<Edge> edges_;
  std::map<std::pair<std::string, std::string>, size_t> edge_at_;
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
