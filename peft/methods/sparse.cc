// Sparse updates W0 + delta with few entries: FishMask (methods.md 4.6, 2111.09839) chooses them by
// Fisher information before training, diff pruning (4.5, 2012.07463) learns which through
// stochastic gates and then trains the chosen ones. One list of positions serves all tensors,
// counted through them one after another, so the shapes of a graph do not depend on the choice.
#include <algorithm>
#include <cmath>
#include <functional>

#include "autograd/ops.h"
#include "core/error.h"
#include "core/random.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

constexpr const char* kValues = "sparse_delta.values";
constexpr const char* kIndex = "sparse_delta.index";

struct Chosen {
  std::string name;
  Shape shape;
  int64_t offset;  // of its first entry among all
};

std::vector<Chosen> choose(const Rewrite& r, const Json& config) {
  std::vector<Chosen> chosen;
  int64_t offset = 0;
  for (const std::string& name : select_params(r.base(), config)) {
    chosen.push_back({name, r.base().param(name).type.shape, offset});
    offset += chosen.back().shape.elements();
  }
  return chosen;
}

int64_t kept(const std::vector<Chosen>& chosen, double ratio, const char* what) {
  if (ratio <= 0 || ratio > 1)
    throw UsageError("{} should be above 0 and at most 1 but is {}", what, ratio);
  const int64_t all = chosen.back().offset + chosen.back().shape.elements();
  return std::max<int64_t>(1, std::llround(ratio * static_cast<double>(all)));
}

void add_sparse_delta(Rewrite& r, const std::vector<Chosen>& chosen, int64_t k) {
  const Value values = r.param(kValues, {k}, Init::zeros());
  const Value index = r.buffer(kIndex, DType::i64, {k});
  for (const Chosen& c : chosen) {
    r.reparametrize(c.name, [&](Builder& b, Value w) {
      return ops::sparse_add(b, w, values, index, c.offset);
    });
  }
}

// Exactly k positions with the largest scores, ascending; ties go to the earlier one.
Tensor largest(const std::vector<Chosen>& chosen, int64_t k,
               const std::function<float(const Chosen&, int64_t)>& score) {
  std::vector<float> all;
  all.reserve(static_cast<size_t>(chosen.back().offset + chosen.back().shape.elements()));
  for (const Chosen& c : chosen) {
    for (int64_t i = 0; i < c.shape.elements(); ++i) all.push_back(score(c, i));
  }
  std::vector<float> sorted = all;
  std::ranges::nth_element(sorted, sorted.begin() + (k - 1), std::greater<>());
  const float least = sorted[static_cast<size_t>(k - 1)];
  int64_t ties = k - std::ranges::count_if(all, [&](float s) { return s > least; });
  Tensor index(DType::i64, {k});
  int64_t* out = index.data<int64_t>();
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] > least || (all[i] == least && ties-- > 0)) *out++ = static_cast<int64_t>(i);
  }
  return index;
}

void fish_mask(Rewrite& r, const Json& config) {
  const std::vector<Chosen> chosen = choose(r, config);
  const int64_t k = kept(chosen, config.at("keep_ratio").get<double>(), "keep_ratio");
  add_sparse_delta(r, chosen, k);
  FisherStart fisher;
  for (const Chosen& c : chosen) fisher.params.push_back(c.name);
  fisher.samples = config.at("num_samples").get<int64_t>();
  const auto& type = config.at("sample_type").get_ref<const std::string&>();
  if (type != "label" && type != "expect") {
    throw UsageError("sample_type should be label or expect but is '{}'", type);
  }
  if (fisher.samples < 1) throw UsageError("num_samples should be positive");
  fisher.expected = type == "expect";
  fisher.start = [chosen, k](const std::map<std::string, Tensor>& information, ParamStore& store) {
    store.set(kIndex, largest(chosen, k, [&](const Chosen& c, int64_t i) {
                return information.at(c.name).data<float>()[i];
              }));
  };
  r.start_from_fisher(std::move(fisher));
}

// ---- diff pruning

std::string part(const std::string& name, const char* what) { return name + ".diff_" + what; }

struct Gates {
  double lower, upper;
  explicit Gates(const Json& config)
      : lower(config.at("concrete_lower").get<double>()),
        upper(config.at("concrete_upper").get<double>()) {
    if (!(lower < 0 && upper > 1)) {
      throw UsageError("concrete_lower must be below 0 and concrete_upper above 1");
    }
  }
  // P(gate != 0) = sigmoid(alpha - log(-lower / upper)), summed.
  Value open(Builder& b, Value alpha) const {
    return ops::sum(b, ops::sigmoid(b, ops::add_scalar(b, alpha, -std::log(-lower / upper))));
  }
  float median(float alpha) const {
    return std::clamp(
        static_cast<float>((upper - lower) / (1 + std::exp(-static_cast<double>(alpha))) + lower),
        0.0f, 1.0f);
  }
};

void learn_gates(Rewrite& r, const std::vector<Chosen>& chosen, const Json& config) {
  const Gates gates(config);
  const Init start = Init::constant(config.at("alpha_init").get<double>());
  const double rate = config.at("alpha_lr_ratio").get<double>();
  const bool structured = config.at("structured").get<bool>();
  Builder& b = r.builder();
  Value open;
  auto gated = [&](const std::string& name, const Shape& shape) {
    const Value alpha = r.param(name, shape, start);
    b.param_ref(name).lr_scale = rate;
    const Value p = gates.open(b, alpha);
    open = open.valid() ? ops::add(b, open, p) : p;
    return ops::hard_concrete(b, alpha, r.rng(), gates.lower, gates.upper,
                              static_cast<int64_t>(hash_name(name) >> 1));
  };
  for (const Chosen& c : chosen) {
    r.reparametrize(c.name, [&](Builder&, Value w) {
      const Value delta = r.param(part(c.name, "w"), c.shape, Init::zeros());
      Value z = gated(part(c.name, "alpha"), c.shape);
      if (structured) z = ops::mul(b, z, gated(part(c.name, "alpha_group"), {1}));
      return ops::add(b, w, ops::mul(b, delta, z));
    });
  }
  r.penalty("diff_pruning", ops::scale(b, open, config.at("sparsity_pen").get<double>()));
}

// The entries of z w with the largest magnitude become the sparse update.
void start_sparse(const std::vector<Chosen>& chosen, int64_t k, const Gates& gates,
                  ParamStore& store) {
  if (!store.contains(part(chosen[0].name, "w"))) return;  // read from a file instead
  auto delta = [&](const Chosen& c, int64_t i) {
    const std::string group = part(c.name, "alpha_group");
    const float shared =
        store.contains(group) ? gates.median(store.get(group).data<float>()[0]) : 1;
    return store.get(part(c.name, "w")).data<float>()[i] * shared *
           gates.median(store.get(part(c.name, "alpha")).data<float>()[i]);
  };
  const Tensor index =
      largest(chosen, k, [&](const Chosen& c, int64_t i) { return std::fabs(delta(c, i)); });
  Tensor values(DType::f32, {k});
  auto c = chosen.begin();
  for (int64_t j = 0; j < k; ++j) {
    const int64_t at = index.data<int64_t>()[j];
    while (at >= c->offset + c->shape.elements()) ++c;
    values.data<float>()[j] = delta(*c, at - c->offset);
  }
  store.set(kIndex, index);
  store.set(kValues, values);
  for (const Chosen& done : chosen) {
    for (const char* what : {"w", "alpha", "alpha_group"}) store.erase(part(done.name, what));
  }
}

void diff_pruning(Rewrite& r, const Json& config) {
  const std::vector<Chosen> chosen = choose(r, config);
  const auto& stage = config.at("stage").get_ref<const std::string&>();
  if (stage == "gates") return learn_gates(r, chosen, config);
  if (stage != "sparse") throw UsageError("stage should be gates or sparse but is '{}'", stage);
  const int64_t k = kept(chosen, config.at("target_sparsity").get<double>(), "target_sparsity");
  add_sparse_delta(r, chosen, k);
  r.initialize([=, gates = Gates(config)](ParamStore& s) { start_sparse(chosen, k, gates, s); });
}

Json sparse_stage(const Json& config, double progress, const ParamStore&) {
  if (config.at("stage") != "gates" || progress < config.at("gate_share").get<double>())
    return nullptr;
  Json next = config;
  next["stage"] = "sparse";
  return next;
}

Json fish_defaults() {
  Json d = target_defaults();
  d.update(Json{{"keep_ratio", 0.005},
                {"num_samples", 1024},
                {"sample_type", "label"},
                {"include_embeddings", true}});
  return d;
}
Json diff_defaults() {
  Json d = target_defaults();
  d.update(Json{{"target_sparsity", 0.005},
                {"sparsity_pen", 1.25e-7},
                {"concrete_lower", -1.5},
                {"concrete_upper", 1.5},
                {"alpha_init", 5.0},
                {"alpha_lr_ratio", 200.0},
                {"structured", true},
                {"gate_share", 0.5},
                {"stage", "gates"},
                {"include_embeddings", true}});
  return d;
}

const Method kMethods[] = {
    {"fish_mask", "selective", "freeze, reparametrize", "2111.09839", "", 1e-3, fish_defaults,
     fish_mask},
    {"diff_pruning", "selective", "freeze, reparametrize", "2012.07463", "", 5e-4, diff_defaults,
     diff_pruning, nullptr, sparse_stage},
};

}  // namespace

std::span<const Method> sparse_methods() { return kMethods; }

}  // namespace graft::peft
