#include "autograd/draw_labels.h"

#include <algorithm>

#include "autograd/op.h"

namespace graft::draw {
namespace {

constexpr std::string_view kFrozen = "#e3e3e3", kTrainable = "#a6dba0", kAdded = "#e3f4de",
                           kAddedBorder = "#1b7837", kReparametrized = "#fdd0a2",
                           kReparametrizedBorder = "#d95f0e", kBorder = "#8a8a8a",
                           kQuiet = "#6b6b6b";

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    out += c == '&'   ? "&amp;"
           : c == '<' ? "&lt;"
           : c == '>' ? "&gt;"
           : c == '"' ? "&quot;"
                      : std::string(1, c);
  }
  return out;
}

std::string small(std::string_view text, std::string_view color = "black") {
  return fmt::format("<FONT POINT-SIZE=\"9\" COLOR=\"{}\">{}</FONT>", color, escaped(text));
}

// 1234567 -> "1.23M"
std::string short_count(int64_t n) {
  const auto x = static_cast<double>(n);
  if (n >= 1'000'000'000) return fmt::format("{:.3g}G", x / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.3g}M", x / 1e6);
  if (n >= 10'000) return fmt::format("{:.3g}k", x / 1e3);
  return fmt::format("{}", n);
}

std::string attributes(const Node& n, Detail detail) {
  const std::string& all = n.attrs.str();
  if (detail == Detail::all) return all;
  for (std::string_view key : {"value=", "p="}) {
    if (all.starts_with(key)) return all.substr(key.size(), all.find(',', key.size()) - key.size());
  }
  return {};
}

std::string cell(const Param& p, const std::string& scope) {
  return fmt::format("<TD BGCOLOR=\"{}\">{} {}</TD>", p.trainable ? kTrainable : kFrozen,
                     small(relative(p.name, scope)), small(short_type(p.type), kQuiet));
}

}  // namespace

std::string_view shade(Phase phase) {
  return phase == Phase::forward ? "#fbfbfb" : phase == Phase::backward ? "#e8f1fa" : "#f1ebf7";
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string short_type(const Type& t) { return t.dtype == DType::f32 ? t.shape.str() : t.str(); }

std::string relative(const std::string& name, const std::string& at) {
  const auto names = path_of(name), here = path_of(at);
  const auto shared = std::ranges::mismatch(names, here).in1 - names.begin();
  return join(names, static_cast<size_t>(shared), names.size());
}

std::string label(const Node& n, Change change, const std::vector<const Param*>& params,
                  Detail detail, const std::string& shown) {
  if (n.op->name == "input") {
    return fmt::format("[shape=ellipse, margin=\"0.05,0.02\", color=\"{}\", label={}]", kBorder,
                       quoted(n.attrs.as<NameAttrs>().name));
  }
  std::string_view fill = n.phase == Phase::forward ? "white" : shade(n.phase), border = kBorder;
  if (change == Change::added) fill = kAdded, border = kAddedBorder;
  if (change == Change::reparametrized) fill = kReparametrized, border = kReparametrizedBorder;
  std::string head = fmt::format("<B>{}</B>", n.op->name);
  if (const std::string a = attributes(n, detail); !a.empty()) head += " " + small(a, kQuiet);
  if (const std::string where = relative(n.scope, shown); !where.empty())
    head += "<BR/>" + small(where, kQuiet);
  std::string cells;
  for (const Param* p : params) cells += cell(*p, n.scope);
  if (!cells.empty()) cells = "<TR>" + cells + "</TR>";
  return fmt::format(
      "[label=<<TABLE BORDER=\"0\" CELLBORDER=\"1\" CELLSPACING=\"0\" CELLPADDING=\"3\" "
      "COLOR=\"{}\"><TR><TD COLSPAN=\"{}\" BGCOLOR=\"{}\">{}</TD></TR>{}</TABLE>>]",
      border, std::max<size_t>(params.size(), 1), fill, head, cells);
}

std::string label(const Box& box, const std::string& shown) {
  std::string numbers;
  if (box.trainable > 0) numbers += fmt::format("{} trainable, ", short_count(box.trainable));
  numbers += fmt::format("{} frozen", short_count(box.frozen));
  if (box.frozen == 0 && box.trainable == 0) numbers = fmt::format("{} nodes", box.nodes);
  const bool equal = !box.same_as.empty();
  std::string line = "unchanged";
  if (box.phase == Phase::backward) line = "passes the gradient on";
  if (equal) line = fmt::format("as {}", box.same_as);
  if (equal && box.modules > 1) line = fmt::format("×{} {}", box.modules, line);
  return fmt::format(
      "[shape={}, style=filled, margin=\"0.15,0.08\", color=\"{}\", fillcolor=\"{}\", "
      "label=<<B>{}</B><BR/>{}<BR/>{}>]",
      equal ? "box3d" : "box", box.trainable > 0 ? kAddedBorder : kBorder,
      box.trainable > 0 ? kAdded : kFrozen, escaped(relative(box.title, shown)),
      small(line, kQuiet), small(numbers, kQuiet));
}

// "grad/" stays before the name of what it is the gradient of.
std::string result_label(const std::string& name, const std::string& shown) {
  const size_t slash = name.rfind('/') + 1;
  return fmt::format("[label={}, shape=ellipse, margin=\"0.05,0.02\", penwidth=1.5]",
                     quoted(name.substr(0, slash) + relative(name.substr(slash), shown)));
}

std::string legend(const std::string& title, const Occurs& occurs) {
  std::vector<std::string> cells;
  const auto fill = [&](bool used, std::string_view color, std::string_view text) {
    if (used) cells.push_back(fmt::format("<TD BGCOLOR=\"{}\">{}</TD>", color, small(text)));
  };
  const auto edge = [&](bool used, std::string_view color, std::string_view text) {
    if (used) cells.push_back(fmt::format("<TD BORDER=\"0\">{}</TD>", small(text, color)));
  };
  fill(occurs.frozen, kFrozen, "frozen");
  fill(occurs.trainable, kTrainable, "trainable");
  fill(occurs.added, kAdded, "added");
  fill(occurs.reparametrized, kReparametrized, "in place of a weight");
  edge(occurs.rewired, kRewired, "→ rewired");
  edge(occurs.kept, kKept, "⇢ kept for later");
  std::string rows;
  if (!title.empty()) {
    rows += fmt::format("<TR><TD BORDER=\"0\" COLSPAN=\"{}\"><B>{}</B></TD></TR>",
                        std::max<size_t>(cells.size(), 1), escaped(title));
  }
  if (!cells.empty()) rows += fmt::format("<TR>{}</TR>", fmt::join(cells, ""));
  if (rows.empty()) return "\"\"";
  return fmt::format(
      "<<TABLE BORDER=\"0\" CELLBORDER=\"1\" CELLSPACING=\"3\" COLOR=\"{}\">{}</TABLE>>", kBorder,
      rows);
}

}  // namespace graft::draw
