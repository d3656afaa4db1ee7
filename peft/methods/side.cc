// Ladder side-tuning (methods.md 3.2, 2206.06522): a small transformer beside the frozen one, fed
// by its hidden states. Gradients never enter the backbone: nothing below the taps depends on a
// trained parameter, so no backward node exists there.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "autograd/op.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

// A linear layer of the backbone, by the names of its parameters.
struct Linear {
  std::string weight, bias;
};

// The parameters of one block of the backbone; norms without .weight.
struct BlockParams {
  int layer;
  Linear query, key, value, out, up, down;
  std::string attention_norm, norm;
  bool norms_first;  // x + f(LN(x)), not LN(x + f(x))
};

// One block of the backbone as its marks show it.
struct Block {
  BlockParams params;
  Value output;
  Node attention;   // its operands give the mask
  Node activation;  // of the MLP
};

struct Sizes {
  int64_t width, inner, heads, head;
};

// Structural pruning: the side network begins as the rows and columns of the backbone with the
// largest L1 norms.
struct PrunedStart {
  Sizes full, side;
  std::vector<BlockParams> blocks;

  // One choice of channels for the residual stream, which all blocks share; in each block one of
  // the MLP's units and of each head's channels (queries with keys, values with outputs).
  void operator()(ParamStore& store) const {
    const ParamStore& base = store;  // reading changes nothing of it
    std::vector<double> stream(static_cast<size_t>(full.width));
    for (const BlockParams& block : blocks) {
      for (const Linear* l : {&block.query, &block.key, &block.value, &block.up}) {
        add_l1(base.get(l->weight), false, stream);
      }
      for (const Linear* l : {&block.out, &block.down}) add_l1(base.get(l->weight), true, stream);
    }
    std::vector<int64_t> width;
    append_largest(stream, 0, full.width, side.width, width);
    for (const BlockParams& block : blocks) {
      const std::string at = fmt::format("side.layers.{}", block.layer);
      std::vector<double> scores(static_cast<size_t>(full.heads * full.head)), values = scores;
      std::vector<double> units(static_cast<size_t>(full.inner));
      add_l1(base.get(block.query.weight), true, scores);
      add_l1(base.get(block.key.weight), true, scores);
      add_l1(base.get(block.value.weight), true, values);
      add_l1(base.get(block.out.weight), false, values);
      add_l1(base.get(block.up.weight), true, units);
      add_l1(base.get(block.down.weight), false, units);
      std::vector<int64_t> keys, contents, inner;
      for (int64_t h = 0; h < full.heads; ++h) {
        append_largest(scores, h * full.head, full.head, side.head, keys);
        append_largest(values, h * full.head, full.head, side.head, contents);
      }
      append_largest(units, 0, full.inner, side.inner, inner);
      copy_part(store, block.query, at + ".attention.query", keys, width);
      copy_part(store, block.key, at + ".attention.key", keys, width);
      copy_part(store, block.value, at + ".attention.value", contents, width);
      copy_part(store, block.out, at + ".attention.out", width, contents);
      copy_part(store, block.up, at + ".mlp.up", inner, width);
      copy_part(store, block.down, at + ".mlp.down", width, inner);
      for (const char* part : {".weight", ".bias"}) {
        copy_vector(store, block.attention_norm + part, at + ".attention.norm" + part, width);
        copy_vector(store, block.norm + part, at + ".norm" + part, width);
      }
    }
  }

  // Adds the L1 norm of every row (or column) of a matrix.
  static void add_l1(const Tensor& w, bool rows, std::vector<double>& sums) {
    const int64_t n = w.shape()[1];
    for (int64_t i = 0; i < w.elements(); ++i) {
      sums[static_cast<size_t>(rows ? i / n : i % n)] +=
          std::fabs(static_cast<double>(w.data<float>()[i]));
    }
  }

  // The `keep` largest of sums[from, from + size), ascending.
  static void append_largest(const std::vector<double>& sums, int64_t from, int64_t size,
                             int64_t keep, std::vector<int64_t>& out) {
    std::vector<int64_t> order(static_cast<size_t>(size));
    std::iota(order.begin(), order.end(), from);
    std::ranges::stable_sort(order, std::greater<>(),
                             [&](int64_t i) { return sums[static_cast<size_t>(i)]; });
    order.resize(static_cast<size_t>(keep));
    std::ranges::sort(order);
    out.insert(out.end(), order.begin(), order.end());
  }

  static void copy_part(ParamStore& store, const Linear& from, const std::string& to,
                        const std::vector<int64_t>& rows, const std::vector<int64_t>& columns) {
    const Tensor w = std::as_const(store).get(from.weight);
    Tensor part(DType::f32,
                {static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns.size())});
    float* p = part.data<float>();
    for (int64_t i : rows) {
      for (int64_t j : columns) *p++ = w.data<float>()[i * w.shape()[1] + j];
    }
    store.set(to + ".weight", part);
    copy_vector(store, from.bias, to + ".bias", rows);
  }

  static void copy_vector(ParamStore& store, const std::string& from, const std::string& to,
                          const std::vector<int64_t>& rows) {
    if (from.empty()) return;
    const Tensor v = std::as_const(store).get(from);
    Tensor part(DType::f32, {static_cast<int64_t>(rows.size())});
    for (size_t i = 0; i < rows.size(); ++i) part.data<float>()[i] = v.data<float>()[rows[i]];
    store.set(to, part);
  }
};

class Ladder {
 public:
  Ladder(Rewrite& r, const Json& config) : r_(r), b_(r.builder()), config_(config) {
    reduction_ = config.at("reduction_factor").get<int64_t>();
    const Shape x = b_.shape(mark(Role::embedding_output, -1));
    for (const Mark& m : r.base().marks(Role::block_output)) blocks_.push_back(block(m));
    if (blocks_.empty()) throw UsageError("the model marks no blocks");
    const Shape q = b_.shape(blocks_[0].attention.inputs[0]);
    full_ = {x[-1], b_.shape(b_.param_value(blocks_[0].params.up.weight))[0], q[2], q[3]};
    if (reduction_ < 1 || full_.head < reduction_) {
      throw UsageError("reduction_factor should be between 1 and {} (the head size) but is {}",
                       full_.head, reduction_);
    }
    side_ = {full_.width / reduction_, full_.inner / reduction_, full_.heads,
             full_.head / reduction_};
  }

  void build() {
    const Json& chosen = config_.at("side_layers");
    std::vector<BlockParams> kept;
    Value s = linear(mark(Role::embedding_output, -1), "side.first", full_.width, side_.width);
    for (const Block& block : blocks_) {
      const int layer = block.params.layer;
      if (chosen.is_array() && std::ranges::find(chosen, Json(layer)) == chosen.end()) continue;
      kept.push_back(block.params);
      const std::string at = fmt::format("side.layers.{}", layer);
      s = side_block(mixed(s, block.output, at), block, at);
    }
    if (kept.empty()) throw UsageError("side_layers {} names no block", chosen.dump());
    s = norm(s, "side.norm");
    const Value last = mark(Role::final_hidden, -1);
    const Value z = linear(s, "side.up", side_.width, b_.shape(last)[-1]);
    b_.replace_uses(last, z, [&](const Use& u) { return !inside(u); });
    if (config_.at("init_from_backbone").get<bool>()) {
      r_.initialize(PrunedStart{full_, side_, kept});
    }
  }

 private:
  Value mark(Role role, int layer) const {
    for (const Mark& m : r_.base().marks(role)) {
      if (m.layer == layer) return m.value;
    }
    throw UsageError("the model does not mark {}", name_of(role));
  }

  // Readers of the last hidden state that belong to the ladder keep reading it.
  bool inside(const Use& u) const {
    return static_cast<size_t>(u.node) >= r_.base().nodes().size();
  }

  // What dropout is taken of: the ladder has none.
  const Node& undropped(Value y) const {
    const Node* n = &r_.base().node(y.node);
    while (n->op->name == "dropout") n = &r_.base().node(n->inputs[0].node);
    return *n;
  }

  Linear linear_of(Value y) const {
    const Node& n = undropped(y);
    if (n.op->name != "linear") throw UsageError("'{}' is not a linear layer of its own", n.scope);
    auto name = [&](size_t i) {
      if (i >= n.inputs.size() || !n.inputs[i].valid()) return std::string();
      const Node& leaf = r_.base().node(n.inputs[i].node);
      if (leaf.op->name != "param")
        throw UsageError("the weight of '{}' is not held as [out, in]", n.scope);
      return leaf.attrs.as<NameAttrs>().name;
    };
    return {name(1), name(2)};
  }

  std::string name_of_norm(const Node& n) const {
    const std::string weight = r_.base().node(n.inputs[1].node).attrs.as<NameAttrs>().name;
    return weight.substr(0, weight.rfind('.'));
  }

  // The norm behind a residual add: y = LN(f(x) + x).
  std::string norm_after(Value y) const {
    const Uses uses(r_.base().nodes());
    for (const Use& add : uses.of(y)) {
      for (const Use& reader : uses.of({add.node, 0})) {
        const Node& n = r_.base().node(reader.node);
        if (n.op->name == "layer_norm") return name_of_norm(n);
      }
    }
    throw UsageError("the block at '{}' is not LN(x + f(x))", r_.base().node(y.node).scope);
  }

  // The norm that a product reads.
  std::string norm_before(Value y) const {
    const Node& product = r_.base().node(y.node);
    const Node& n = r_.base().node(product.inputs[0].node);
    if (n.op->name == "layer_norm") return name_of_norm(n);
    throw UsageError(
        "'{}' reads the result of {}; the side network's blocks begin with layer norms",
        product.scope, n.op->name);
  }

  Block block(const Mark& m) const {
    const Value q = mark(Role::attention_query, m.layer);
    const Value out = mark(Role::attention_block_output, m.layer);
    const Value down = mark(Role::mlp_block_output, m.layer);
    const Value up = mark(Role::mlp_up, m.layer);
    const bool first = r_.base().node(m.value.node).op->name == "add";
    Block found{{m.layer, linear_of(q), linear_of(mark(Role::attention_key, m.layer)),
                 linear_of(mark(Role::attention_value, m.layer)), linear_of(out), linear_of(up),
                 linear_of(down), first ? norm_before(q) : norm_after(out),
                 first ? norm_before(up) : norm_after(down), first},
                m.value,
                {},
                undropped(mark(Role::mlp_activation, m.layer))};
    for (int32_t i = q.node; i < out.node; ++i) {
      if (r_.base().node(i).op->name == "attention") found.attention = r_.base().node(i);
    }
    const auto length = [&](size_t i) { return b_.shape(found.attention.inputs[i])[1]; };
    if (found.attention.op != nullptr && length(0) != length(1)) {
      throw UsageError("the side network has no keys and values of the {} tokens that '{}' keeps",
                       length(1), found.attention.scope);
    }
    if (found.attention.op == nullptr || found.activation.inputs.size() != 1) {
      throw UsageError("block {} has no attention or a gated MLP", m.layer);
    }
    return found;
  }

  Value linear(Value x, const std::string& name, int64_t in, int64_t out) {
    const Value w = r_.param(name + ".weight", {out, in}, Init::kaiming_uniform5(in));
    return ops::linear(b_, x, w, r_.param(name + ".bias", {out}, Init::kaiming_uniform5(in)));
  }

  Value norm(Value x, const std::string& name) {
    return ops::layer_norm(b_, x, r_.param(name + ".weight", {side_.width}, Init::ones()),
                           r_.param(name + ".bias", {side_.width}, Init::zeros()), 1e-12);
  }

  // mu s + (1 - mu) Linear(h), mu = sigmoid(alpha / T)
  Value mixed(Value s, Value h, const std::string& at) {
    const Value alpha =
        r_.param(at + ".gate", {1}, Init::constant(config_.at("gate_alpha").get<double>()));
    const Value mu =
        ops::sigmoid(b_, ops::scale(b_, alpha, 1 / config_.at("gate_T").get<double>()));
    const Value tap = linear(h, at + ".tap", full_.width, side_.width);
    return ops::add(b_, tap, ops::mul(b_, mu, ops::sub(b_, s, tap)));
  }

  Value side_block(Value s, const Block& block, const std::string& at) {
    const Shape x = b_.shape(s);
    const int64_t inner = side_.heads * side_.head;
    const bool first = block.params.norms_first;
    const auto before = [&](Value v, const std::string& n) { return first ? norm(v, n) : v; };
    const auto after = [&](Value v, const std::string& n) { return first ? v : norm(v, n); };
    const std::string attention_norm = at + ".attention.norm", mlp_norm = at + ".norm";
    const Value read = before(s, attention_norm);
    auto heads = [&](const char* name) {
      const Value y = linear(read, at + ".attention." + name, side_.width, inner);
      return ops::reshape(b_, y, {x[0], x[1], side_.heads, side_.head});
    };
    AttentionAttrs attrs = block.attention.attrs.as<AttentionAttrs>();
    attrs.scale = 1 / std::sqrt(static_cast<double>(side_.head));
    attrs.dropout = 0;
    const auto& in = block.attention.inputs;
    const Value context =
        ops::attention(b_, heads("query"), heads("key"), heads("value"),
                       in.size() > 3 ? in[3] : Value{}, in.size() > 4 ? in[4] : Value{}, attrs);
    const Value joined = ops::reshape(b_, context, {x[0], x[1], inner});
    const Value attended = linear(joined, at + ".attention.out", inner, side_.width);
    const Value x1 = after(ops::add(b_, attended, s), attention_norm);
    const Value up = linear(before(x1, mlp_norm), at + ".mlp.up", side_.width, side_.inner);
    const Value hidden = b_.node(block.activation.op->name, {up}, block.activation.attrs);
    const Value down = linear(hidden, at + ".mlp.down", side_.inner, side_.width);
    return after(ops::add(b_, down, x1), mlp_norm);
  }

  Rewrite& r_;
  Builder& b_;
  const Json& config_;
  int64_t reduction_;
  Sizes full_{}, side_{};
  std::vector<Block> blocks_;
};

void lst(Rewrite& r, const Json& config) { Ladder(r, config).build(); }

Json defaults() {
  return {{"reduction_factor", 8},
          {"side_layers", nullptr},
          {"gate_T", 0.1},
          {"gate_alpha", 0.0},
          {"init_from_backbone", true}};
}

const Method kMethods[] = {
    {"lst", "additive: side network", "freeze, add", "2206.06522", "", 3e-3, defaults, lst}};

}  // namespace

std::span<const Method> side_methods() { return kMethods; }

}  // namespace graft::peft
