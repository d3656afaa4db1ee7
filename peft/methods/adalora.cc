// AdaLoRA (methods.md 5.7, 2303.10512): W + s B diag(e) A whose triplets are pruned during training
// by importance, down to a budget shared by all matrices. As Hugging Face PEFT computes it.
#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

struct Target {
  std::string a, b, e;  // [rank, in], [out, rank], [rank, 1]
  int64_t rank;
};

std::vector<int64_t> kept_ranks(const Json& config, const std::string& e) {
  std::vector<int64_t> kept;
  const Json& pattern = config.at("rank_pattern");
  if (!pattern.is_object() || !pattern.contains(e)) return kept;
  const auto bits = pattern.at(e).get<std::vector<bool>>();
  for (size_t i = 0; i < bits.size(); ++i) {
    if (bits[i]) kept.push_back(static_cast<int64_t>(i));
  }
  return kept;
}

bool pruned(const Json& config) { return config.at("rank_pattern").is_object(); }

// ||x x^T - I||_F, or of x^T x.
Value orthogonality(Builder& b, Value x, bool rows) {
  const int64_t r = b.shape(x)[rows ? 0 : 1];
  // Ones in the first column of [r, r + 1], read as rows of r, are the identity.
  const Value column = ops::pad(b, b.constant(1, {r, 1}), {0, 0}, {0, r});
  const Value flat = ops::slice(b, ops::reshape(b, column, {r * (r + 1)}), 0, 0, r * r);
  const Value gram = rows ? ops::matmul(b, x, x, false, true) : ops::matmul(b, x, x, true, false);
  return ops::l2_norm(b, {ops::sub(b, gram, ops::reshape(b, flat, {r, r}))});
}

void penalize(Rewrite& r, const std::vector<Target>& targets, double weight) {
  Builder& b = r.builder();
  Value sum;
  for (const Target& t : targets) {
    for (bool rows : {true, false}) {
      const Value x = b.param_value(rows ? t.a : t.b);
      const Value norm = orthogonality(b, x, rows);
      sum = sum.valid() ? ops::add(b, sum, norm) : norm;
    }
  }
  r.penalty("adalora", ops::scale(b, sum, weight / (2.0 * static_cast<double>(targets.size()))));
}

struct Allocation {
  std::vector<Target> targets;
  AdaloraAttrs budget;
  double beta1, beta2;

  // Importance of every entry, then of triplets; the singular values of those that fall out of the
  // budget become 0.
  void operator()(Builder& b, const std::map<std::string, Value>& gradients,
                  const std::map<std::string, Value>& updated) const {
    const Value step = b.param_value("optimizer.step");
    const Attrs attrs =
        Attrs::of(AdaloraImportanceAttrs{beta1, beta2, budget.total - budget.tfinal});
    auto state = [&](const std::string& name, const Shape& shape, const Init& init) {
      return b.param({.name = "optimizer." + name,
                      .type = {DType::f32, shape},
                      .kind = Param::Kind::state,
                      .init = init});
    };
    auto score = [&](const std::string& name) {
      const Shape shape = b.shape(updated.at(name));
      const std::string average = name + ".exp_avg_ipt", uncertainty = name + ".exp_avg_unc";
      const Value v =
          b.node("adalora_importance",
                 {updated.at(name), gradients.at(name), state(average, shape, Init::zeros()),
                  state(uncertainty, shape, Init::zeros()), step},
                 attrs);
      b.assign("optimizer." + average, {v.node, 0});
      b.assign("optimizer." + uncertainty, {v.node, 1});
      return Value{v.node, 2};
    };
    std::vector<Value> scores;
    for (const Target& t : targets) {
      const Value entries =
          ops::add(b, ops::mean(b, score(t.a), {1}), ops::mean(b, score(t.b), {0}));
      scores.push_back(ops::add(b, ops::reshape(b, score(t.e), {t.rank}), entries));
    }
    const Value all = ops::concat(b, scores, 0);
    const Value keep =
        b.node("adalora_allocate", {all, state("adalora.keep", b.shape(all), Init::ones()), step},
               Attrs::of(budget));
    b.assign("optimizer.adalora.keep", keep);
    int64_t at = 0;
    for (const Target& t : targets) {
      const Value factor = ops::slice(b, {keep.node, 1}, 0, at, at + t.rank);
      b.assign(t.e, ops::mul(b, updated.at(t.e), ops::reshape(b, factor, {t.rank, 1})));
      at += t.rank;
    }
  }
};

// Carries full matrices over to the kept ranks, in place of their names.
void slice_ranks(const Target& t, const std::vector<int64_t>& kept, ParamStore& store) {
  auto slice = [&](const std::string& name, bool rows) {
    const Tensor from = store.get(name);
    const int64_t m = from.shape()[0], n = from.shape()[1], r = static_cast<int64_t>(kept.size());
    if ((rows ? m : n) == r) return;
    Tensor to(DType::f32, rows ? Shape{r, n} : Shape{m, r});
    for (int64_t i = 0; i < to.elements(); ++i) {
      const int64_t row = rows ? kept[static_cast<size_t>(i / n)] : i / r;
      const int64_t column = rows ? i % n : kept[static_cast<size_t>(i % r)];
      to.data<float>()[i] = from.data<float>()[row * n + column];
    }
    store.set(name, to);
  };
  slice(t.a, true);
  slice(t.e, true);
  slice(t.b, false);
}

AdaloraAttrs budget_of(const Json& config, size_t matrices) {
  AdaloraAttrs a;
  const auto n = static_cast<int64_t>(matrices);
  a.init = config.at("init_r").get<int64_t>() * n;
  a.target = config.at("target_r").get<int64_t>() * n;
  a.tinit = config.at("tinit").get<int64_t>();
  a.tfinal = config.at("tfinal").get<int64_t>();
  a.delta_t = config.at("deltaT").get<int64_t>();
  a.total = json_as<int64_t>(config.at("total_step"), "adalora: total_step");
  if (a.target > a.init || a.target < n || a.delta_t < 1 || a.tinit < 0 || a.tfinal < 0 ||
      a.total <= a.tinit + a.tfinal) {
    throw UsageError(
        "needs 1 <= target_r <= init_r, deltaT >= 1 and total_step > tinit + tfinal; got "
        "target_r {}, init_r {}, deltaT {}, total_step {}, tinit {}, tfinal {}",
        a.target / n, a.init / n, a.delta_t, a.total, a.tinit, a.tfinal);
  }
  return a;
}

void adalora(Rewrite& r, const Json& config) {
  const auto init_r = config.at("init_r").get<int64_t>();
  if (init_r < 1) throw UsageError("init_r should be positive but is {}", init_r);
  double alpha = config.at("lora_alpha").get<double>();
  if (alpha <= 0) alpha = static_cast<double>(init_r);
  const double scale = alpha / (static_cast<double>(init_r) + 1e-5);
  const double p = config.at("lora_dropout").get<double>();
  std::vector<Target> targets;
  for (const Module& m : r.targets(config, {Role::attention_query, Role::attention_value})) {
    if (m.kind != Module::Kind::linear) throw UsageError("'{}' is not a linear layer", m.name);
    const std::vector<int64_t> kept = kept_ranks(config, m.name + ".lora_E");
    const Target t{m.name + ".lora_A", m.name + ".lora_B", m.name + ".lora_E",
                   pruned(config) ? static_cast<int64_t>(kept.size()) : init_r};
    const Value a = r.param(t.a, {t.rank, m.shape[1]}, Init::normal(0.02));
    const Value b = r.param(t.b, {m.shape[0], t.rank}, Init::normal(0.02));
    const Value e = r.param(t.e, {t.rank, 1}, Init::zeros());
    if (r.training() && p > 0) {
      r.add_beside(m, [&](Builder& g, Value x) {
        const Value u = ops::linear(g, r.dropout(x, p, m.name), ops::mul(g, a, e));
        return ops::scale(g, ops::linear(g, u, b), scale);
      });
    } else {
      r.reparametrize(m, [&](Builder& g, Value weight) {
        return ops::add(g, weight, ops::scale(g, ops::matmul(g, b, ops::mul(g, a, e)), scale));
      });
    }
    if (pruned(config)) r.initialize([t, kept](ParamStore& s) { slice_ranks(t, kept, s); });
    targets.push_back(t);
  }
  if (!r.training() || pruned(config)) return;
  penalize(r, targets, config.at("orth_reg_weight").get<double>());
  if (config.at("total_step").is_null()) {
    throw UsageError("total_step, the number of training steps, is not set");
  }
  r.after_step(Allocation{targets, budget_of(config, targets.size()),
                          config.at("beta1").get<double>(), config.at("beta2").get<double>()});
}

// At the end the triplets that are 0 are dropped, exactly.
Json drop_zero_triplets(const Json& config, double progress, const ParamStore& store) {
  if (progress < 1 || pruned(config)) return nullptr;
  Json next = config;
  next["rank_pattern"] = Json::object();
  for (const std::string& name : store.names()) {
    if (!name.ends_with(".lora_E")) continue;
    const Tensor& e = store.get(name);
    Json bits = Json::array();
    for (int64_t i = 0; i < e.elements(); ++i) bits.push_back(e.data<float>()[i] != 0);
    next["rank_pattern"][name] = bits;
  }
  return next;
}

Json defaults() {
  Json d = target_defaults();
  d.update(Json{{"init_r", 12},
                {"target_r", 8},
                {"tinit", 0},
                {"tfinal", 0},
                {"deltaT", 1},
                {"beta1", 0.85},
                {"beta2", 0.85},
                {"orth_reg_weight", 0.5},
                {"total_step", nullptr},
                {"rank_pattern", nullptr},
                {"lora_alpha", 8},
                {"lora_dropout", 0.0}});
  return d;
}

const Method kMethods[] = {{"adalora", "reparametrization", "freeze, reparametrize", "2303.10512",
                            "ADALORA", 5e-3, defaults, adalora, nullptr, drop_zero_triplets}};

}  // namespace

std::span<const Method> adalora_methods() { return kMethods; }

}  // namespace graft::peft
