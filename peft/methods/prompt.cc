// Soft prompts: prompt tuning (methods.md 2.1, 2104.08691) puts trained rows in front of the token
// embeddings, prefix tuning (2.2, 2101.00190) trained keys and values in front of every attention.
#include <algorithm>
#include <map>
#include <utility>

#include "autograd/op.h"
#include "autograd/ops.h"
#include "core/error.h"
#include "core/random.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

int64_t count_of(const Json& config) {
  const auto n = config.at("num_virtual_tokens").get<int64_t>();
  if (n < 1) throw UsageError("num_virtual_tokens should be positive but is {}", n);
  return n;
}

// Where the prompt stands and how it begins: Hugging Face PEFT puts N(0, 1) rows among the token
// embeddings, AdapterHub U(-0.5, 0.5) rows behind the whole embedding layer.
Role prompt_role(const Json& config) {
  const auto& at = config.at("insert_at").get_ref<const std::string&>();
  for (Role role : {Role::embedding_tokens, Role::embedding_output}) {
    if (at == name_of(role)) return role;
  }
  throw UsageError("insert_at should be embedding.tokens or embedding.output but is '{}'", at);
}

Init prompt_init(const Json& config) {
  const auto& mode = config.at("prompt_tuning_init").get_ref<const std::string&>();
  if (mode == "RANDOM") return Init::normal(1);
  if (mode == "random_uniform") return Init::uniform(-0.5, 0.5);
  if (mode == "SAMPLE_VOCAB" || mode == "TEXT") return Init::given();
  throw UsageError(
      "prompt_tuning_init should be RANDOM, SAMPLE_VOCAB or random_uniform but is '{}'", mode);
}

// Rows of the token table, drawn with repetition.
void sample_vocabulary(Rewrite& r, Value tokens, const Shape& shape) {
  const Value table = r.builder().graph().node(tokens.node).inputs[1];
  const Node& leaf = r.builder().graph().node(table.node);
  if (leaf.op->name != "param") throw UsageError("SAMPLE_VOCAB needs a token table");
  r.initialize([shape, from = leaf.attrs.as<NameAttrs>().name](ParamStore& s) {
    const Tensor rows = std::as_const(s).get(from).cast(DType::f32);
    Tensor prompt(DType::f32, shape);
    const RandomStream random(0, hash_name("prompt_embeddings"));
    for (int64_t i = 0; i < shape[0]; ++i) {
      const auto row = static_cast<int64_t>(random.bits(static_cast<uint64_t>(i)) %
                                            static_cast<uint64_t>(rows.shape()[0]));
      std::copy_n(rows.data<float>() + row * shape[1], shape[1],
                  prompt.data<float>() + i * shape[1]);
    }
    s.set("prompt_embeddings", prompt);
  });
}

// The batch has count_of() rows of any token in front; the prompt takes their place, so no shape
// changes downstream. With two stacks it stands in front of the first; Hugging Face PEFT has rows
// for both in one table and reads those of the first.
void prompt_tuning(Rewrite& r, const Json& config) {
  const int64_t p = count_of(config);
  const Role role = prompt_role(config);
  const std::vector<Mark> places = r.marks(role);
  // A batch has room in front where it is made of tokens, and not of a picture.
  if (r.marks(Role::embedding_tokens).empty()) throw UsageError("the model reads no tokens");
  if (places.empty()) throw UsageError("the model has no {}", name_of(role));
  const Value at = places[0].value;
  const Shape s = r.builder().shape(at);
  if (s[1] <= p) throw UsageError("{} positions do not hold {} virtual tokens and a text", s[1], p);
  const int64_t stacks = role == Role::embedding_tokens ? static_cast<int64_t>(places.size()) : 1;
  const Shape table{stacks * p, s[2]};
  const Value prompt = r.param("prompt_embeddings", table, prompt_init(config));
  if (config.at("prompt_tuning_init") == "SAMPLE_VOCAB")
    sample_vocabulary(r, r.marks(Role::embedding_tokens).at(0).value, table);
  r.add_after(at, [&](Builder& b, Value x) {
    const Value read = stacks == 1 ? prompt : ops::slice(b, prompt, 0, 0, p);
    const Value rows = ops::expand(b, ops::reshape(b, read, {1, p, s[2]}), {s[0], p, s[2]});
    return ops::concat(b, {rows, ops::slice(b, x, 1, p, s[1])}, 1);
  });
}

// The table [p, 2 L d] of all prefixes: a parameter, or an MLP of a smaller one.
Value prefix_table(Rewrite& r, const Json& config, int64_t p, int64_t width, int64_t dim) {
  if (!config.at("prefix_projection").get<bool>())
    return r.param("prompt_embeddings", {p, width}, Init::normal(1));
  Builder& b = r.builder();
  const auto mid = json_field<int64_t>(config, "encoder_hidden_size", "prefix_tuning", dim);
  const std::string at = "prompt_encoder.";
  Value h = r.param(at + "embedding.weight", {p, dim}, Init::normal(1));
  h = ops::tanh(
      b,
      ops::linear(b, h, r.param(at + "transform.0.weight", {mid, dim}, Init::kaiming_uniform5(dim)),
                  r.param(at + "transform.0.bias", {mid}, Init::kaiming_uniform5(dim))));
  const Value table = ops::linear(
      b, h, r.param(at + "transform.2.weight", {width, mid}, Init::kaiming_uniform5(mid)),
      r.param(at + "transform.2.bias", {width}, Init::kaiming_uniform5(mid)));
  r.eject("prompt_embeddings", table);
  return table;
}

// What the queries of an attention are made of: the input of their projection.
Value attention_input(const Rewrite& r, size_t site) {
  const auto queries = r.base().marks(Role::attention_query);
  if (site >= queries.size()) throw UsageError("gates need the role attention.query");
  const int32_t product = product_behind(r.base(), queries[site].value);
  if (product < 0) throw UsageError("gates need queries that are a product");
  return r.base().node(product).inputs[0];
}

// An attention that gets a prefix.
struct Site {
  int32_t node;
  size_t number;  // among all attentions
};

struct Sites {
  std::vector<Site> all;
  bool two_stacks = false;
};

// Every attention; of a model with two stacks the decoder's own, the only ones that Hugging Face
// PEFT gives a prefix there.
Sites prefix_sites(const Graph& g) {
  std::vector<Site> every, causal;
  for (size_t i = 0; i < g.nodes().size(); ++i) {
    const Node& n = g.nodes()[i];
    if (n.op->name != "attention") continue;
    const Site site{static_cast<int32_t>(i), every.size()};
    every.push_back(site);
    if (n.attrs.as<AttentionAttrs>().causal) causal.push_back(site);
  }
  if (every.empty()) throw UsageError("the model has no attention");
  const bool two_stacks = !causal.empty() && causal.size() < every.size();
  return {two_stacks ? causal : every, two_stacks};
}

// Distances [.., T, S] of keys from queries with p keys more in front, each one further away.
Value further(Builder& b, Value distance, int64_t p) {
  const Value left =
      ops::add_scalar(b, ops::cumsum(b, b.constant(1, {p}), 0), -1.0 - static_cast<double>(p));
  const Value first = ops::slice(b, distance, -1, 0, 1);
  return ops::concat(b, {ops::add(b, first, left), distance}, -1);
}

// A value that is made of buckets of distances, for p keys more in front; absent if it is not.
Value by_distance(Builder& b, Value v, int64_t p, bool bucketed = false) {
  const Node n = b.graph().node(v.node);
  const std::string_view op = n.op->name;
  bucketed = bucketed || op == "t5_bucket";
  if (op != "transpose" && op != "embedding" && op != "t5_bucket" && op != "cast")
    return bucketed ? further(b, v, p) : Value{};
  std::vector<Value> in = n.inputs;
  in[0] = by_distance(b, in[0], p, bucketed);
  return in[0].valid() ? b.node(op, in, n.attrs) : Value{};
}

// The bias of the scores [.., T, S] for p keys more in front. Where it goes by distance they
// continue it, as in Hugging Face PEFT; else they have none.
Value widened(Builder& b, Value bias, int64_t p) {
  const Value wide = by_distance(b, bias, p);
  return wide.valid() ? wide : ops::pad(b, bias, {0, 0, 0, p}, {0, 0, 0, 0});
}

}  // namespace

void prefix_tuning(Rewrite& r, const Json& config) {
  const int64_t p = count_of(config);
  Builder& b = r.builder();
  const Sites sites = prefix_sites(r.base());
  // [B, S, heads, head size]
  const Shape k0 = b.shape(b.graph().node(sites.all[0].node).inputs[1]);
  const int64_t batch = k0[0], dim = k0[2] * k0[3], layers = static_cast<int64_t>(sites.all.size());
  const Value table = prefix_table(r, config, p, 2 * layers * dim, dim);
  std::map<Value, Value> biases;  // a stack shares one
  for (int64_t l = 0; l < layers; ++l) {
    const auto& [site, number] = sites.all[static_cast<size_t>(l)];
    // The reference cuts a table of 2 L slots, repeated once for cross-attention, into fours, and
    // reads the first half of each.
    const int64_t slot = sites.two_stacks ? 4 * l % (2 * layers) : 2 * l;
    b.set_path(b.graph().node(site).scope);
    Value gated;  // per example, on keys and values alike
    if (config.at("use_gating").get<bool>()) {
      const Value x = attention_input(r, number);
      gated = ops::reshape(b, gate(r, b, x, b.path("prefix_gate")), {batch, 1, 1, 1});
    }
    for (int32_t which : {0, 1}) {  // keys at the slot, values behind it
      const int64_t first = (slot + which) * dim;
      const Value rows =
          ops::reshape(b, ops::slice(b, table, 1, first, first + dim), {1, p, k0[2], k0[3]});
      r.add_at({site, 1 + which}, [&](Builder& g, Value kv) {
        const Value own = gated.valid() ? ops::mul(g, rows, gated)
                                        : ops::expand(g, rows, {batch, p, k0[2], k0[3]});
        return ops::concat(g, {own, kv}, 1);
      });
    }
    r.add_at({site, 3}, [&](Builder& g, Value bias) {
      if (!bias.valid()) return bias;
      Value& wide = biases[bias];
      if (!wide.valid()) wide = widened(g, bias, p);
      return wide;
    });
    r.add_at({site, 4}, [&](Builder& g, Value keep) {  // the prefix is visible to everyone
      return keep.valid() ? ops::concat(g, {g.constant(1, {batch, p}, g.type(keep).dtype), keep}, 1)
                          : keep;
    });
  }
  b.set_path("");
}

Json prefix_mlp_defaults() {
  return {{"num_virtual_tokens", 10},
          {"prefix_projection", true},
          {"encoder_hidden_size", nullptr},
          {"use_gating", false}};
}

namespace {

Json prompt_defaults() {
  return {{"num_virtual_tokens", 10},
          {"prompt_tuning_init", "RANDOM"},
          {"insert_at", "embedding.tokens"}};
}
Json prefix_defaults() {
  Json d = prefix_mlp_defaults();
  d["prefix_projection"] = false;
  return d;
}

const Method kMethods[] = {
    {"prompt_tuning", "additive: soft prompt", "freeze, add", "2104.08691", "PROMPT_TUNING", 1e-2,
     prompt_defaults, prompt_tuning, count_of},
    {"prefix_tuning", "additive: soft prompt", "freeze, add", "2101.00190", "PREFIX_TUNING", 1e-2,
     prefix_defaults, prefix_tuning, nullptr, nullptr, count_of},
    {"prefix_mlp", "additive: soft prompt", "freeze, add", "2101.00190", "PREFIX_TUNING", 2e-3,
     prefix_mlp_defaults, prefix_tuning, nullptr, nullptr, count_of},
};

}  // namespace

std::span<const Method> prompt_methods() { return kMethods; }

}  // namespace graft::peft
