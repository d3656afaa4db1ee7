#include "tests/support/random_graph.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "autograd/ops.h"
#include "core/random.h"
#include "tests/support/random_step.h"

namespace graft::testing {
namespace {

constexpr int64_t kRows = 5;  // of every table that is looked up in

class Generator {
 public:
  explicit Generator(uint64_t seed) : dice_(seed) {}

  Graph model() {
    const int64_t leaves = dice_.between(2, 4);
    for (int64_t i = 0; i < leaves; ++i) pool_.push_back(leaf(some_shape()));
    using Maker = void (Generator::*)();
    static constexpr Maker kMakers[] = {
        &Generator::unary,     &Generator::unary,    &Generator::positive, &Generator::binary,
        &Generator::binary,    &Generator::choice,   &Generator::moved,    &Generator::moved,
        &Generator::part,      &Generator::joined,   &Generator::reduced,  &Generator::row_wise,
        &Generator::norm,      &Generator::product,  &Generator::product,  &Generator::lookup,
        &Generator::indexed,   &Generator::random,   &Generator::attended, &Generator::updated,
        &Generator::low_rank,  &Generator::low_rank, &Generator::diagonal, &Generator::loss,
        &Generator::duplicate, &Generator::duplicate};
    const int64_t steps = dice_.between(6, 24);
    for (int64_t i = 0; i < steps; ++i) {
      const auto scope = b_.scope(fmt::format("block.{}", dice_.below(3)));
      (this->*kMakers[static_cast<size_t>(dice_.below(std::size(kMakers)))])();
    }
    for (int64_t i = 0, n = dice_.between(1, 5); i < n; ++i)
      b_.output(fmt::format("y{}", i), i == 0 ? pool_.back() : any());
    if (dice_.one_in(2)) {
      loss();
      b_.output("head", pool_.back());
    }
    return b_.finish();
  }

 private:
  // ---- leaves
  Shape some_shape() {
    std::vector<int64_t> dims;
    for (int64_t i = 0, rank = dice_.between(1, 3); i < rank; ++i)
      dims.push_back(dice_.between(1, 4));
    return Shape(dims);
  }
  std::string fresh(std::string_view kind) { return fmt::format("{}{}", kind, names_++); }
  Value param(const Shape& shape, bool trainable, const std::string& adapter = "") {
    return b_.param({.name = b_.path(fresh(adapter.empty() ? "weight" : "adapter")),
                     .type = {DType::f32, shape},
                     .trainable = trainable,
                     .init = Init::normal(0.5),
                     .adapter = adapter});
  }
  Value param(const Shape& shape) { return param(shape, dice_.one_in(2)); }
  Value leaf(const Shape& shape) {
    return dice_.one_in(3) ? param(shape) : b_.input(fresh("x"), DType::f32, shape);
  }
  Value indices(const Shape& shape) { return b_.input(fresh("ids"), DType::i64, shape); }
  Value rng() { return b_.input("rng", DType::i64, {2}); }

  // ---- values there are
  Value any() {
    return pool_[static_cast<size_t>(dice_.below(static_cast<int64_t>(pool_.size())))];
  }
  // One of at least that rank.
  Value any(int rank) {
    std::vector<Value> fit;
    std::ranges::copy_if(pool_, std::back_inserter(fit),
                         [&](Value v) { return b_.shape(v).rank() >= rank; });
    if (fit.empty()) return leaf(rank == 1 ? Shape{3} : rank == 2 ? Shape{2, 3} : Shape{2, 1, 3});
    return fit[static_cast<size_t>(dice_.below(static_cast<int64_t>(fit.size())))];
  }
  int64_t axis_of(Value v) { return dice_.below(b_.shape(v).rank()); }
  // Values stay moderate: what may have grown goes through a bounded function now and then.
  void keep(Value v) {
    if (b_.shape(v).elements() > 400) return;
    pool_.push_back(dice_.one_in(4) ? ops::tanh(b_, v) : v);
  }

  // ---- ops by kind
  void unary() {
    using Unary = Value (*)(Builder&, Value);
    static constexpr Unary kUnary[] = {
        ops::tanh,     ops::sigmoid, ops::relu, ops::gelu_erf, ops::gelu_tanh, ops::silu,
        ops::softplus, ops::neg,     ops::abs,  ops::sin,      ops::cos,       ops::stop_gradient};
    const Value x = any();
    switch (dice_.below(9)) {
      case 0:
        return keep(ops::scale(b_, x, 0.25 * static_cast<double>(dice_.between(1, 6))));
      case 1:
        return keep(ops::add_scalar(b_, x, 0.5));
      case 2:
        return keep(ops::clamp(b_, x, -0.75, 1.5));
      default:
        return keep(kUnary[static_cast<size_t>(dice_.below(std::size(kUnary)))](b_, x));
    }
  }
  void positive() {
    const Value x = any();
    const Value p = ops::add_scalar(b_, ops::pow_scalar(b_, ops::tanh(b_, x), 2), 0.5);
    switch (dice_.below(6)) {
      case 0:
        return keep(ops::log(b_, p));
      case 1:
        return keep(ops::sqrt(b_, p));
      case 2:
        return keep(ops::rsqrt(b_, p));
      case 3:
        return keep(ops::exp(b_, ops::neg(b_, p)));
      case 4:
        return keep(ops::pow(b_, p, ops::sigmoid(b_, x)));
      default:
        return keep(ops::div(b_, x, p));
    }
  }
  void binary() {
    const Value x = any();
    std::vector<Value> fit;
    for (const Value v : pool_) {
      try {
        if (broadcast(b_.shape(x), b_.shape(v)).elements() <= 400) fit.push_back(v);
      } catch (const ShapeError&) {
      }
    }
    const Value y = fit[static_cast<size_t>(dice_.below(static_cast<int64_t>(fit.size())))];
    switch (dice_.below(3)) {
      case 0:
        return keep(ops::add(b_, x, y));
      case 1:
        return keep(ops::sub(b_, x, y));
      default:
        return keep(ops::mul(b_, x, y));
    }
  }
  void choice() {
    const Value x = any();
    const Value mask = b_.input(fresh("mask"), DType::i64, b_.shape(x));
    keep(dice_.one_in(2) ? ops::where(b_, mask, x, ops::scale(b_, x, 0.5))
                         : ops::masked_fill(b_, x, mask, -0.25));
  }
  void moved() {
    const Value x = any(1);
    const Shape s = b_.shape(x);
    switch (dice_.below(4)) {
      case 0:
        return keep(ops::reshape(b_, x, {s.elements()}));
      case 1:
        return keep(ops::reshape(b_, x, {1, s[0], s.elements() / s[0]}));
      case 2: {
        std::vector<int64_t> perm;
        for (int i = s.rank(); i-- > 0;) perm.push_back(i);
        return keep(ops::transpose(b_, x, perm));
      }
      default: {
        std::vector<int64_t> dims(s.dims().begin(), s.dims().end());
        dims.insert(dims.begin(), dice_.between(1, 3));
        if (s.rank() < 4) keep(ops::expand(b_, x, Shape(dims)));
      }
    }
  }
  void part() {
    const Value x = any(1);
    const int64_t axis = axis_of(x), size = b_.shape(x)[static_cast<int>(axis)];
    if (size > 1 && dice_.one_in(3)) {
      for (const Value v : ops::split(b_, x, {1, size - 1}, axis)) keep(v);
    } else if (dice_.one_in(2)) {
      keep(ops::slice(b_, x, axis, 0, size, dice_.between(1, 2)));
    } else {
      std::vector<int64_t> before(static_cast<size_t>(b_.shape(x).rank()), 0), after = before;
      before[static_cast<size_t>(axis)] = 1;
      after[static_cast<size_t>(axis)] = size > 1 ? -1 : 1;
      keep(ops::pad(b_, x, before, after, 0.5));
    }
  }
  void joined() {
    const Value x = any(1);
    keep(ops::concat(b_, {x, dice_.one_in(2) ? x : ops::neg(b_, x)}, axis_of(x)));
  }
  void reduced() {
    const Value x = any(1);
    const int64_t axis = axis_of(x);
    const bool keepdim = dice_.one_in(2);
    switch (dice_.below(5)) {
      case 0:
        return keep(ops::sum(b_, x, {axis}, keepdim));
      case 1:
        return keep(ops::mean(b_, x, {axis}, keepdim));
      case 2:
        return keep(ops::max(b_, x, axis, keepdim).first);
      case 3:
        return keep(ops::cumsum(b_, x, axis, dice_.one_in(2)));
      default:
        return keep(ops::l2_norm(b_, {ops::add_scalar(b_, ops::pow_scalar(b_, x, 2), 0.1)}));
    }
  }
  void row_wise() {
    const Value x = any(1);
    keep(dice_.one_in(2) ? ops::softmax(b_, x) : ops::log_softmax(b_, x));
  }
  void norm() {
    const Value x = any(1);
    const Value w = param({b_.shape(x)[-1]});
    keep(dice_.one_in(2) ? ops::rms_norm(b_, x, w, 0.1)
                         : ops::layer_norm(b_, x, w, dice_.one_in(2) ? w : Value{}, 0.1));
  }
  void product() {
    // A product's gradient may read what the ReLU gives, whose own then reads it too.
    const Value x = dice_.one_in(3) ? ops::relu(b_, any(2)) : any(2);
    const int64_t out = dice_.between(1, 4), in = b_.shape(x)[-1];
    if (dice_.one_in(2)) {
      keep(ops::linear(b_, x, param({out, in}), dice_.one_in(2) ? param({out}) : Value{}));
    } else {
      keep(dice_.one_in(2) ? ops::matmul(b_, x, x, false, true)
                           : ops::matmul(b_, x, param({in, out})));
    }
  }
  void lookup() { keep(ops::embedding(b_, indices({2, 3}), param({kRows, dice_.between(1, 4)}))); }
  void indexed() {
    const Value table = param({kRows, dice_.between(1, 3)});
    const int64_t width = b_.shape(table)[1];
    const Value index = indices({2, width});
    switch (dice_.below(5)) {
      case 4:
        return windows();
      case 0:
        return keep(ops::gather(b_, table, index, 0));
      case 1:
        return keep(ops::index_select(b_, table, indices({3}), 0));
      case 2:
        return keep(ops::scatter_add(b_, table, index, param({2, width}), 0));
      default:  // distinct places: otherwise it is not said who wins
        return keep(ops::scatter(b_, table, b_.input(fresh("range"), DType::i64, {2, width}),
                                 param({2, width}), 0));
    }
  }
  void windows() {
    const Value x = any(2), start = indices(dice_.one_in(2) ? Shape{} : Shape{b_.shape(x)[0]});
    const Value rows = ops::read_rows(b_, x, start, dice_.between(1, b_.shape(x)[1]));
    keep(dice_.one_in(2) ? rows : ops::write_rows(b_, x, ops::neg(b_, rows), start));
  }
  void random() {
    const Value x = any();
    // Two sites may share their stream: they draw the same numbers, and stay two draws.
    const int64_t stream = dice_.below(3);
    keep(dice_.one_in(2)
             ? ops::dropout(b_, x, rng(), 0.4, stream)
             : ops::hard_concrete(b_, x, dice_.one_in(2) ? rng() : Value{}, -0.5, 1.5, stream));
  }
  void attended() {
    const Value x = any(1);
    const int64_t n = b_.shape(x).elements();
    if (n % 2 != 0) return;
    AttentionAttrs attrs;
    attrs.scale = 0.7;
    attrs.causal = dice_.one_in(2);
    attrs.softcap = dice_.one_in(3) ? 1.5 : 0;
    const Value q = ops::reshape(b_, x, {1, n / 2, 1, 2});
    RopeAttrs rope;
    rope.inv_freq = {0.3};
    const Value turned =
        dice_.one_in(2) ? ops::rope(b_, q, b_.input(fresh("ids"), DType::i64, {1, n / 2}), rope)
                        : q;
    const Value keys = dice_.one_in(2) ? b_.input(fresh("keys"), DType::i64, {1, n / 2}) : Value{};
    attrs.dropout = dice_.one_in(3) ? 0.4 : 0;
    const Value random = attrs.dropout > 0 ? rng() : Value{};
    keep(ops::attention(b_, turned, turned, q, {}, keys, attrs, random));
  }
  void updated() {
    const Value w = param({4});
    keep(ops::sparse_add(b_, w, param({2}), b_.input(fresh("range"), DType::i64, {2}), 0));
  }
  void loss() {
    Value x = any(2);
    if (dice_.one_in(2)) x = head(x);
    const int64_t classes = b_.shape(x)[-1], n = b_.shape(x).elements() / classes;
    if (classes < 2) {
      return keep(ops::bce_with_logits(b_, x, ops::sigmoid(b_, ops::neg(b_, x)), {}, "none"));
    }
    const Value target = b_.input(fresh("mask"), DType::i64, {n});
    keep(ops::cross_entropy(b_, ops::reshape(b_, x, {n, classes}), target,
                            dice_.one_in(2) ? "mean" : "none", -100, 0.1));
  }
  // Logits of a language model, in some of their forms.
  Value head(Value x) {
    const int64_t classes = dice_.between(2, 5);
    Value z = ops::linear(b_, x, param({classes, b_.shape(x)[-1]}),
                          dice_.one_in(2) ? param({classes}) : Value{});
    if (dice_.one_in(3)) z = ops::slice(b_, z, 0, 0, dice_.between(1, b_.shape(z)[0]));
    if (dice_.one_in(3)) z = ops::scale(b_, z, 0.5);
    if (dice_.one_in(3)) z = ops::scale(b_, ops::tanh(b_, ops::scale(b_, z, 0.5)), 2);
    if (dice_.one_in(4)) keep(z);
    return z;
  }
  // x (W + s U V)^T or a lookup in it, the product of an adapter; the cheap form may pay or not.
  void low_rank() {
    const bool table = dice_.one_in(4);
    const Value x = table ? indices({3}) : any(2);
    const int64_t in = table ? dice_.between(1, 4) : b_.shape(x)[-1],
                  out = table ? kRows : dice_.between(1, 6), r = dice_.between(1, 2);
    const Value w = param({out, in}, false);
    const Value u = param({out, r}, true, "default"), v = param({r, in}, true, "default");
    const Value update = ops::scale(b_, ops::matmul(b_, u, v), dice_.one_in(2) ? 1 : 1.5);
    Value to = dice_.one_in(2) ? ops::add(b_, w, update) : ops::add(b_, update, w);
    if (dice_.one_in(3)) to = ops::mul(b_, to, param({out, 1}, true, "default"));
    use_reparametrized(x, w, to, table, out);
  }
  // x (diag(c) W)^T or x (W diag(c))^T
  void diagonal() {
    const Value x = any(2);
    const int64_t in = b_.shape(x)[-1], out = dice_.between(1, 4);
    const Value w = param({out, in}, false);
    const Value c = param(dice_.one_in(2) ? Shape{out, 1} : Shape{1, in}, true, "default");
    use_reparametrized(x, w, ops::mul(b_, w, c), false, out);
  }
  void use_reparametrized(Value x, Value w, Value to, bool table, int64_t out) {
    b_.mark_reparametrized(b_.graph().node(w.node).attrs.as<NameAttrs>().name, to);
    if (table) return keep(ops::embedding(b_, x, to));
    keep(ops::linear(b_, x, to, dice_.one_in(2) ? param({out}) : Value{}));
    if (dice_.one_in(3)) keep(ops::linear(b_, ops::neg(b_, x), to));
  }
  // A node that is there already, once more.
  void duplicate() {
    const auto nodes = static_cast<int64_t>(b_.graph().nodes().size());
    const int32_t i = dice_.one_in(2) ? any().node : static_cast<int32_t>(dice_.below(nodes));
    const Node n = b_.graph().node(i);
    if (n.op->name == "input" || n.op->name == "param") return;
    // What an adapter forms of a weight goes into the weight's place alone.
    const bool activation = std::ranges::find(pool_, Value{i, 0}) != pool_.end();
    const Value copy = b_.node(n.op->name, n.inputs, n.attrs);
    if (activation) pool_.push_back(copy);
  }

  Dice dice_;
  Builder b_;
  std::vector<Value> pool_;  // f32
  int64_t names_ = 0;
};

// Inputs are told apart by the first letters of their names.
Inputs random_inputs(const Graph& graph, uint64_t seed) {
  Inputs inputs;
  for (const Node& n : graph.nodes()) {
    if (n.op->name != "input") continue;
    const auto& a = n.attrs.as<NameAttrs>();
    const Type type{a.dtype, a.shape};
    if (a.dtype == DType::f32) {
      inputs[a.name] = draw(Init::normal(1), type, seed, a.name);
      continue;
    }
    Tensor t(a.dtype, a.shape);
    const RandomStream random(seed, hash_name(a.name));
    for (int64_t i = 0; i < t.elements(); ++i) {
      const auto bits = static_cast<int64_t>(random.bits(static_cast<uint64_t>(i)));
      t.data<int64_t>()[i] = a.name.starts_with("ids")     ? bits % kRows
                             : a.name.starts_with("range") ? i % kRows
                             : a.name.starts_with("keys")  ? i % 3 != 1
                             : a.name.starts_with("rng")   ? (i == 0 ? bits : 3)
                                                           : bits % 2;
    }
    inputs[a.name] = std::move(t);
  }
  return inputs;
}

}  // namespace

RandomGraph random_graph(uint64_t seed) {
  RandomGraph g;
  g.model = Generator(seed).model();
  g.step = random_step(g.model, seed);
  g.model_inputs = random_inputs(g.model, seed);
  g.step_inputs = random_inputs(g.step, seed);
  g.params.initialize(g.step, seed);
  g.params.initialize(g.model, seed);
  return g;
}

}  // namespace graft::testing
