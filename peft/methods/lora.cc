// LoRA (methods.md 5.2, 2106.09685) with rsLoRA (5.3, 2312.03732), DoRA (5.6, 2402.09353), PiSSA
// (5.5, 2404.02948) and OLoRA (2406.01775) starts, embedding targets, bias training and trainable
// token rows, all as Hugging Face PEFT names and computes them; gates (7.4) as AdapterHub does.
#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "autograd/op.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "core/random.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixMap = Eigen::Map<Matrix>;

MatrixMap matrix(Tensor& t) { return {t.data<float>(), t.shape()[0], t.shape()[1]}; }

// A module's weight as its product reads it, and back.
Matrix stored_weight(const Module& m, const ParamStore& store) {
  Tensor w = store.get(m.weight);
  return m.transposed ? Matrix(matrix(w).transpose()) : Matrix(matrix(w));
}
void store_weight(const Module& m, const Matrix& w, ParamStore& store) {
  Tensor to(DType::f32, store.stored(m.weight).shape());
  matrix(to) = m.transposed ? Matrix(w.transpose()) : w;
  store.set(m.weight, to);
}

struct Target {
  Module module;
  int64_t rank;
  double scale;
  std::string a, b, magnitude;  // parameter names
};

Target describe(const Module& m, const Json& config) {
  Target t{m, config.at("r").get<int64_t>(), 0, {}, {}, m.name + ".lora_magnitude_vector"};
  double alpha = config.at("lora_alpha").get<double>();
  if (const Json* v = pattern_value(config.at("rank_pattern"), m.name)) {
    t.rank = json_as<int64_t>(*v, "lora: a rank of rank_pattern");
  }
  if (const Json* v = pattern_value(config.at("alpha_pattern"), m.name)) {
    alpha = json_as<double>(*v, "lora: an alpha of alpha_pattern");
  }
  if (t.rank < 1) throw UsageError("r should be positive but is {}", t.rank);
  const double r = static_cast<double>(t.rank);
  t.scale = alpha / (config.at("use_rslora").get<bool>() ? std::sqrt(r) : r);
  const bool embedding = m.kind == Module::Kind::embedding;
  t.a = m.name + (embedding ? ".lora_embedding_A" : ".lora_A.weight");
  t.b = m.name + (embedding ? ".lora_embedding_B" : ".lora_B.weight");
  return t;
}

// W + s B A for a product; for a table E + s (B A)^T.
Value updated(Builder& b, Value w, Value a, Value bb, const Target& t) {
  const bool embedding = t.module.kind == Module::Kind::embedding;
  const Value product =
      embedding ? ops::matmul(b, ops::transpose(b, a, {1, 0}), ops::transpose(b, bb, {1, 0}))
                : ops::matmul(b, bb, a);
  return ops::add(b, w, ops::scale(b, product, t.scale));
}

// |V| over an axis, a constant for the gradient.
Value frozen_norm(Builder& b, Value v, int64_t axis) {
  const Value frozen = ops::stop_gradient(b, v);
  return ops::sqrt(b, ops::sum(b, ops::pow_scalar(b, frozen, 2), {axis}));
}

// diag(m / |V|) V, norms over the axis that a product sums over (tables: over the vocabulary).
Value with_magnitude(Builder& b, Value v, Value magnitude, bool embedding) {
  const Shape s = b.shape(v);
  const Value c = ops::div(b, magnitude, frozen_norm(b, v, embedding ? 0 : 1));
  return ops::mul(b, v, ops::reshape(b, c, embedding ? Shape{1, s[1]} : Shape{s[0], 1}));
}

// AdapterHub's DoRA: the norm is that of W + B A, without the scale and not a constant, and the
// factor m / norm acts on the bias, too.
void adapterhub_dora(Rewrite& r, const Target& t, Value a, Value bb, Value magnitude) {
  Value c;
  r.reparametrize(t.module, [&](Builder& b, Value w) {
    const Value unscaled = ops::add(b, w, ops::matmul(b, bb, a));
    const Value norm = ops::sqrt(b, ops::sum(b, ops::pow_scalar(b, unscaled, 2), {1}));
    c = ops::div(b, magnitude, norm);
    return ops::mul(b, updated(b, w, a, bb, t), ops::reshape(b, c, {b.shape(w)[0], 1}));
  });
  if (t.module.bias.empty()) return;
  r.reparametrize(t.module.bias, [&](Builder& b, Value bias) { return ops::mul(b, bias, c); });
}

// drop(x) A^T B^T
Value thin(Rewrite& r, Builder& b, Value x, Value a, Value bb, const Target& t, double p) {
  return ops::linear(b, ops::linear(b, r.dropout(x, p, t.module.name), a), bb);
}

// With dropout the update acts on drop(x) and the weight on x, so it stands beside the product:
// y + s drop(x) A^T B^T; with a magnitude y + c (p + s drop(x) A^T B^T) - p, p = drop(x) W^T and
// c = m / |V|, so that the gradient of c reads one value.
void beside(Rewrite& r, const Target& t, Value a, Value bb, Value magnitude, double p) {
  r.add_beside(t.module, [&](Builder& b, Value x) {
    const Value update = ops::scale(b, thin(r, b, x, a, bb, t, p), t.scale);
    if (!magnitude.valid()) return update;
    const Value w = r.current(t.module);
    const Value c = ops::div(b, magnitude, frozen_norm(b, updated(b, w, a, bb, t), 1));
    const Value plain = ops::linear(b, r.dropout(x, p, t.module.name), w);
    return ops::sub(b, ops::mul(b, ops::add(b, plain, update), c), plain);
  });
}

// W := W - s B A, what the update starts as.
void take_out(const Target& t, Matrix& w, ParamStore& store) {
  Tensor a = store.get(t.a), b = store.get(t.b);
  w -= static_cast<float>(t.scale) * matrix(b) * matrix(a);
  store_weight(t.module, w, store);
}

void start_pissa(const Target& t, ParamStore& store) {
  Tensor a = store.get(t.a), b = store.get(t.b);
  Matrix w = stored_weight(t.module, store);
  Eigen::BDCSVD<Matrix> svd(w, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::VectorXf root =
      (svd.singularValues().head(t.rank) / static_cast<float>(t.scale)).cwiseSqrt();
  matrix(b) = svd.matrixU().leftCols(t.rank) * root.asDiagonal();
  matrix(a) = root.asDiagonal() * svd.matrixV().leftCols(t.rank).transpose();
  take_out(t, w, store);
}

void start_olora(const Target& t, ParamStore& store) {
  Tensor a = store.get(t.a), b = store.get(t.b);
  Matrix w = stored_weight(t.module, store);
  Eigen::HouseholderQR<Matrix> qr(w);
  const Eigen::Index k = std::min(w.rows(), w.cols());
  const Matrix q = qr.householderQ() * Matrix::Identity(w.rows(), k);
  const Matrix r = qr.matrixQR().topRows(k).triangularView<Eigen::Upper>();
  matrix(b) = q.leftCols(t.rank);
  matrix(a) = r.topRows(t.rank);
  take_out(t, w, store);
}

// A and B out of the even and the odd rows of one orthogonal matrix: B A = 0, yet neither is 0.
void start_orthogonal(const Target& t, ParamStore& store) {
  Tensor a = store.get(t.a), b = store.get(t.b);
  const auto drawn = [&](Eigen::Index rows, Eigen::Index columns, const char* what) {
    Tensor x = draw(Init::normal(1), {DType::f32, {rows, columns}}, 0, t.a + what);
    return Matrix(matrix(x));
  };
  const Eigen::Index half = t.rank / 2;
  const Matrix q = Eigen::HouseholderQR<Matrix>(drawn(t.rank, t.rank, ".q")).householderQ();
  Matrix even(half, t.rank), odd(half, t.rank);
  for (Eigen::Index i = 0; i < half; ++i) {
    even.row(i) = q.row(2 * i);
    odd.row(i) = q.row(2 * i + 1);
  }
  constexpr float kScale = 0.1F;
  matrix(a) = kScale * (drawn(matrix(a).cols(), half, ".a") * odd).transpose();
  matrix(b) = kScale * drawn(matrix(b).rows(), half, ".b") * even;
}

void start_magnitude(const Target& t, ParamStore& store) {
  Tensor m = store.get(t.magnitude);
  const Matrix w = stored_weight(t.module, store);
  const auto norms = t.module.kind == Module::Kind::embedding
                         ? w.colwise().norm().transpose().eval()
                         : w.rowwise().norm().eval();
  std::copy_n(norms.data(), m.elements(), m.data<float>());
}

// s times a vector on the product's result: folded into the layer's own bias where it has one.
void add_bias(Rewrite& r, const Target& t) {
  const Value bias = r.param(t.module.name + ".lora_B.bias", {t.module.shape[0]}, Init::zeros());
  const auto added = [&](Builder& b, Value to) {
    return ops::add(b, to, ops::scale(b, bias, t.scale));
  };
  if (!t.module.bias.empty()) {
    r.reparametrize(t.module.bias, added);
  } else {
    for (const int32_t product : t.module.readers) r.add_after({product, 0}, added);
  }
}

void adapt(Rewrite& r, const Target& t, const Json& config) {
  const Shape& w = t.module.shape;  // [out, in] or [V, dim]
  const bool embedding = t.module.kind == Module::Kind::embedding,
             dora = config.at("use_dora").get<bool>();
  const Json& init = config.at("init_lora_weights");
  const std::string mode = init.is_string() ? init.get<std::string>() : "";
  const bool random = init == false;
  const int64_t in = embedding ? w[0] : w[1], out = embedding ? w[1] : w[0];
  Init a = Init::kaiming_uniform5(in), b = random ? Init::kaiming_uniform5(t.rank) : Init::zeros();
  if (embedding) a = random ? Init::normal(1) : Init::zeros(), b = Init::normal(1);
  if (mode == "gaussian")
    a = Init::normal(1 / static_cast<double>(t.rank)),
    b = embedding ? Init::normal(1) : Init::zeros();
  const Value va = r.param(t.a, {t.rank, in}, a), vb = r.param(t.b, {out, t.rank}, b);
  const double p = config.at("lora_dropout").get<double>();
  const Value m = dora ? r.param(t.magnitude, {out}, Init::ones()) : Value{};
  if (config.at("use_gating").get<bool>()) {
    if (dora || embedding) throw UsageError("gates go with plain targets that are products");
    r.add_beside(t.module, [&](Builder& g, Value x) {
      const Value y = thin(r, g, x, va, vb, t, p);
      return ops::mul(g, y, gate(r, g, x, t.module.name + ".gate"));
    });
  } else if (dora && config.at("dora_rule") == "adapterhub") {
    if (embedding || p > 0) throw UsageError("dora_rule adapterhub takes products without dropout");
    adapterhub_dora(r, t, va, vb, m);
  } else if (r.training() && p > 0 && !embedding) {
    beside(r, t, va, vb, m, p);
  } else {
    r.reparametrize(t.module, [&](Builder& g, Value weight) {
      const Value v = updated(g, weight, va, vb, t);
      return dora ? with_magnitude(g, v, m, embedding) : v;
    });
  }
  if (config.at("lora_bias").get<bool>()) {
    if (dora || embedding) throw UsageError("lora_bias takes products without use_dora");
    add_bias(r, t);
  }
  const bool factors = mode.starts_with("pissa") || mode == "olora";
  if (factors && (embedding || t.rank > std::min(in, out))) {
    throw UsageError(
        "init_lora_weights '{}' takes products and r up to their smaller side; {} is {} and "
        "r is {}",
        mode, t.module.weight, w.str(), t.rank);
  }
  if (mode.starts_with("pissa"))
    r.initialize([t](ParamStore& s) { start_pissa(t, s); }, t.module.weight);
  else if (mode == "olora")
    r.initialize([t](ParamStore& s) { start_olora(t, s); }, t.module.weight);
  else if (mode == "orthogonal") {
    if (embedding || t.rank % 2 != 0)
      throw UsageError("init_lora_weights 'orthogonal' takes products and an even r");
    r.initialize([t](ParamStore& s) { start_orthogonal(t, s); });
  } else if (!mode.empty() && mode != "gaussian")
    throw UsageError(
        "init_lora_weights '{}' is not known; known: true, false, gaussian, pissa, olora, "
        "orthogonal",
        mode);
  if (dora) r.initialize([t](ParamStore& s) { start_magnitude(t, s); });
}

// Rows of the token table that train, in all its uses; the others stay. The rows are stored as
// their new values.
void trainable_tokens(Rewrite& r, const Json& indices) {
  std::set<int32_t> lookups;
  for (const Mark& m : r.base().marks(Role::embedding_tokens)) lookups.insert(m.value.node);
  for (const Module& m : modules_of(r.base())) {
    const auto looked_up = [&](int32_t reader) { return lookups.contains(reader); };
    if (m.kind != Module::Kind::embedding || std::ranges::none_of(m.readers, looked_up)) continue;
    const auto rows = json_as<std::vector<int64_t>>(indices, "trainable_token_indices");
    for (int64_t row : rows) {
      if (row < 0 || row >= m.shape[0])
        throw UsageError("trainable_token_indices: token {} is not in the vocabulary of {}", row,
                         m.shape[0]);
    }
    const Shape shape{static_cast<int64_t>(rows.size()), m.shape[1]};
    const std::string name = m.name + ".token_adapter.trainable_tokens_";
    const Value delta = r.param(name + "delta", shape, Init::given()),
                index = r.buffer(name + "index", DType::i64, shape);
    r.reparametrize(m.weight,
                    [&](Builder& b, Value w) { return ops::scatter(b, w, index, delta, 0); });
    r.initialize([=, weight = m.weight](ParamStore& s) {
      const Tensor table = std::as_const(s).get(weight);
      Tensor at(DType::i64, shape), values(DType::f32, shape);
      for (int64_t i = 0; i < shape.elements(); ++i) {
        at.data<int64_t>()[i] = rows[static_cast<size_t>(i / shape[1])];
        values.data<float>()[i] =
            table.data<float>()[at.data<int64_t>()[i] * shape[1] + i % shape[1]];
      }
      s.set(name + "index", at);
      if (!s.contains(name + "delta")) s.set(name + "delta", values);
    });
  }
}

// By target_modules, and by target_parameters: layers whose weight has one of those names.
std::vector<Module> lora_targets(Rewrite& r, const Json& config) {
  const Json &names = config.at("target_modules"), &params = config.at("target_parameters");
  const bool by_param = params.is_array() && !params.empty();
  std::vector<Module> chosen;
  if (!by_param || (!names.is_null() && !names.empty()))
    chosen = r.targets(config, {Role::attention_query, Role::attention_value});
  if (!by_param) return chosen;
  const auto wanted = json_as<std::vector<std::string>>(params, "lora: target_parameters");
  for (const Module& m : modules_of(r.base())) {
    const auto names_it = [&](const std::string& n) { return suffix_matches(m.weight, n); };
    if (std::ranges::any_of(wanted, names_it)) chosen.push_back(m);
  }
  if (chosen.empty())
    throw UsageError("target_parameters {} matches no weight of a layer", params.dump());
  return chosen;
}

}  // namespace

void lora(Rewrite& r, const Json& config) {
  const auto& bias = config.at("bias").get_ref<const std::string&>();
  if (bias != "none" && bias != "all" && bias != "lora_only")
    throw UsageError("bias should be none, all or lora_only but is '{}'", bias);
  for (const Module& m : lora_targets(r, config)) {
    if (m.kind == Module::Kind::norm)
      throw UsageError("'{}' is a normalization layer, which has no matrix to adapt", m.name);
    adapt(r, describe(m, config), config);
    if (bias == "lora_only") r.unfreeze([&](const Param& p) { return p.name == m.bias; });
  }
  if (bias == "all") r.unfreeze([](const Param& p) { return p.name.ends_with(".bias"); });
  if (!config.at("trainable_token_indices").is_null())
    trainable_tokens(r, config.at("trainable_token_indices"));
}

Value gate(Rewrite& r, Builder& b, Value x, const std::string& name) {
  for (const Node& n : r.base().nodes()) {
    if (n.op->name == "attention" && n.attrs.as<AttentionAttrs>().causal) {
      throw UsageError(
          "the gate '{}' is a mean over all tokens, and the attention '{}' is causal: a token "
          "would "
          "see what comes behind it",
          name, n.scope);
    }
  }
  const Value w = r.param(name + ".weight", {1, b.shape(x)[-1]}, Init::normal(0.02));
  const Value logit = ops::linear(b, x, w, r.param(name + ".bias", {1}, Init::zeros()));
  return ops::mean(b, ops::sigmoid(b, logit), {1}, true);
}

Json lora_defaults() {
  Json d = target_defaults();
  d.update(Json{{"r", 8},
                {"lora_alpha", 8},
                {"lora_dropout", 0.0},
                {"bias", "none"},
                {"lora_bias", false},
                {"use_rslora", false},
                {"use_dora", false},
                {"use_gating", false},
                {"dora_rule", "peft"},
                {"init_lora_weights", nullptr},
                {"rank_pattern", Json::object()},
                {"alpha_pattern", Json::object()},
                {"target_parameters", nullptr},
                {"trainable_token_indices", nullptr}});
  return d;
}
namespace {

Json rslora_defaults() {
  Json d = lora_defaults();
  d["use_rslora"] = true;
  return d;
}
Json dora_defaults() {
  Json d = lora_defaults();
  d["use_dora"] = true;
  return d;
}

const Method kMethods[] = {
    {"lora", "reparametrization", "freeze, reparametrize", "2106.09685", "LORA", 5e-3,
     lora_defaults, lora},
    {"rslora", "reparametrization", "freeze, reparametrize", "2312.03732", "LORA", 5e-3,
     rslora_defaults, lora},
    {"dora", "reparametrization", "freeze, reparametrize", "2402.09353", "LORA", 5e-3,
     dora_defaults, lora},
};

}  // namespace

std::span<const Method> lora_methods() { return kMethods; }

}  // namespace graft::peft
