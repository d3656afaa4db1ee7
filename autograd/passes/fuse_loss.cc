#include "autograd/passes/fuse_loss.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "autograd/ops.h"
#include "autograd/passes/dead_code.h"

namespace graft {
namespace {

// What lies between a loss and the linear layer that its logits come from.
struct Head {
  int32_t linear = -1;
  std::vector<int32_t> views;  // from the loss on: each keeps the classes together
  double scale = 1, softcap = 0;
};

bool read_once(const Builder& b, Value v) {
  const auto here = [&](const auto& named) { return named.second == v; };
  return std::ranges::none_of(b.graph().outputs(), here) &&
         std::ranges::none_of(b.graph().assignments(), here) && b.uses(v).size() == 1;
}

std::optional<Head> head_of(const Builder& b, Value logits) {
  Head head;
  const int64_t classes = b.shape(logits)[-1];
  for (Value at = logits; read_once(b, at);) {
    const Node& n = b.graph().node(at.node);
    const std::string_view op = n.op->name;
    if (op == "linear") {
      head.linear = at.node;
      return head;
    }
    if (op == "scale") {
      head.scale *= n.attrs.as<ScalarAttrs>().value;
    } else if (op == "tanh") {  // s tanh(y) = c tanh(s y / c) with c = s
      if (head.softcap != 0 || head.scale <= 0) return std::nullopt;
      head.softcap = head.scale;
    } else if (op == "reshape" && b.shape(n.inputs[0]).rank() > 0 &&
               b.shape(n.inputs[0])[-1] == classes && b.shape(at)[-1] == classes) {
      head.views.push_back(at.node);
    } else if (op == "slice" && n.attrs.as<SliceAttrs>().axis + 1 < b.shape(at).rank()) {
      head.views.push_back(at.node);
    } else {
      return std::nullopt;
    }
    at = n.inputs[0];
  }
  return std::nullopt;
}

// x as the views left the logits: the same rows in the same order.
Value rows_of(Builder& b, const Head& head) {
  Value x = b.graph().node(head.linear).inputs[0];
  const int64_t features = b.shape(x)[-1];
  for (size_t i = head.views.size(); i-- > 0;) {
    const Node view = b.graph().node(head.views[i]);
    x = view.op->name == "reshape" ? ops::reshape(b, x, view.outputs[0].shape.with(-1, features))
                                   : b.node("slice", {x}, view.attrs);
  }
  return x;
}

Value build(Builder& b, const Node& loss, const Head& head) {
  const Node linear = b.graph().node(head.linear);
  b.set_path(linear.scope);
  const Value x = rows_of(b, head);
  // A softcap and its inverse, multiplied.
  const bool scaled = std::fabs(head.scale - 1) > 1e-12;
  Value bias = linear.inputs.size() > 2 ? linear.inputs[2] : Value{};
  if (bias.valid() && scaled) bias = ops::scale(b, bias, head.scale);
  const auto& a = loss.attrs.as<LossAttrs>();
  return ops::linear_cross_entropy(b, x, linear.inputs[1], bias, loss.inputs[1],
                                   {.reduction = a.reduction,
                                    .ignore_index = a.ignore_index,
                                    .label_smoothing = a.label_smoothing,
                                    .scale = scaled ? head.scale : 1,
                                    .softcap = head.softcap});
}

}  // namespace

Value fuse_loss(Builder& b, Value loss, int64_t chunk_bytes) {
  const std::string path = b.path();
  const Phase phase = b.phase;
  const int32_t part = b.part;
  const auto count = static_cast<int32_t>(b.graph().nodes().size());
  for (int32_t i = 0; i < count; ++i) {
    const Node n = b.graph().node(i);
    if (n.op->name != "cross_entropy") continue;
    if (static_cast<int64_t>(b.type(n.inputs[0]).bytes()) <= chunk_bytes) continue;
    const std::optional<Head> head = head_of(b, n.inputs[0]);
    if (!head) continue;
    b.phase = n.phase;
    b.part = n.part;
    const Value fused = build(b, n, *head);
    b.replace_uses({i, 0}, fused);
    if (loss == Value{i, 0}) loss = fused;
  }
  b.set_path(path);
  b.phase = phase;
  b.part = part;
  return loss;
}

Graph fuse_loss(const Graph& graph, int64_t chunk_bytes) {
  Builder b(live_part(graph, nullptr, UnusedInputs::keep));
  fuse_loss(b, Value{}, chunk_bytes);
  return finish_live(b, nullptr, UnusedInputs::keep);
}

}  // namespace graft
