// Soft prompts: prompt tuning (methods.md 2.1, 2104.08691) puts trained rows in front of the token
// embeddings, prefix tuning (2.2, 2101.00190) trained keys and values in front of every attention.
#include <algorithm>

#include "autograd/ops.h"
#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

int64_t count_of(const Json& config) {
  const auto n = config.at("num_virtual_tokens").get<int64_t>();
  if (n < 1) throw UsageError("num_virtual_tokens should be positive but is {}", n);
  return n;
}

// The batch has count_of() rows of any token in front; the prompt takes their place, so no shape
// changes downstream.
void prompt_tuning(Rewrite& r, const Json& config) {
  const int64_t p = count_of(config);
  for (const Mark& m : r.marks(Role::embedding_tokens)) {
    const Shape s = r.builder().shape(m.value);
    if (s[1] <= p)
      throw UsageError("prompt_tuning: {} positions do not hold {} virtual tokens and a text", s[1],
                       p);
    const Value prompt = r.param("prompt_embeddings", {p, s[2]}, Init::normal(1));
    r.add_after(m.value, [&](Builder& b, Value x) {
      const Value rows = ops::expand(b, ops::reshape(b, prompt, {1, p, s[2]}), {s[0], p, s[2]});
      return ops::concat(b, {rows, ops::slice(b, x, 1, p, s[1])}, 1);
    });
  }
}

// The table [p, 2 L d] of all prefixes: a parameter, or an MLP of a smaller one.
Value prefix_table(Rewrite& r, const Json& config, int64_t p, int64_t width, int64_t dim) {
  if (!config.at("prefix_projection").get<bool>())
    return r.param("prompt_embeddings", {p, width}, Init::normal(1));
  Builder& b = r.builder();
  const int64_t mid = config.at("encoder_hidden_size").is_null()
                          ? dim
                          : config.at("encoder_hidden_size").get<int64_t>();
  const std::string at = "prompt_encoder.";
  Value h = r.param(at + "embedding.weight", {p, dim}, Init::normal(1));
  h = ops::tanh(
      b,
      ops::linear(b, h, r.param(at + "transform.0.weight", {mid, dim}, Init::kaiming_uniform5(dim)),
                  r.param(at + "transform.0.bias", {mid}, Init::kaiming_uniform5(dim))));
  return ops::linear(b, h,
                     r.param(at + "transform.2.weight", {width, mid}, Init::kaiming_uniform5(mid)),
                     r.param(at + "transform.2.bias", {width}, Init::kaiming_uniform5(mid)));
}

void prefix_tuning(Rewrite& r, const Json& config) {
  const int64_t p = count_of(config);
  Builder& b = r.builder();
  std::vector<int32_t> sites;
  for (size_t i = 0; i < r.base().nodes().size(); ++i) {
    if (r.base().nodes()[i].op->name == "attention") sites.push_back(static_cast<int32_t>(i));
  }
  if (sites.empty()) throw UsageError("prefix_tuning: the model has no attention");
  const Shape k0 = b.shape(b.graph().node(sites[0]).inputs[1]);  // [B, S, heads, head size]
  const int64_t batch = k0[0], dim = k0[2] * k0[3], layers = static_cast<int64_t>(sites.size());
  const Value table = prefix_table(r, config, p, 2 * layers * dim, dim);
  for (int64_t l = 0; l < layers; ++l) {
    const int32_t site = sites[static_cast<size_t>(l)];
    b.set_path(b.graph().node(site).scope);
    for (int32_t which : {0, 1}) {  // keys at slot 2l, values at 2l + 1
      const int64_t first = (2 * l + which) * dim;
      const Value rows =
          ops::reshape(b, ops::slice(b, table, 1, first, first + dim), {1, p, k0[2], k0[3]});
      r.add_at({site, 1 + which}, [&](Builder& g, Value kv) {
        return ops::concat(g, {ops::expand(g, rows, {batch, p, k0[2], k0[3]}), kv}, 1);
      });
    }
    r.add_at({site, 4}, [&](Builder& g, Value keep) {  // the prefix is visible to everyone
      return keep.valid() ? ops::concat(g, {g.constant(1, {batch, p}, g.type(keep).dtype), keep}, 1)
                          : keep;
    });
  }
  b.set_path("");
}

Json prompt_defaults() { return {{"num_virtual_tokens", 10}}; }
Json prefix_defaults() {
  return {
      {"num_virtual_tokens", 10}, {"prefix_projection", false}, {"encoder_hidden_size", nullptr}};
}
Json prefix_mlp_defaults() {
  return {
      {"num_virtual_tokens", 10}, {"prefix_projection", true}, {"encoder_hidden_size", nullptr}};
}

const Method kMethods[] = {
    {"prompt_tuning", "additive: soft prompt", "freeze, add", "2104.08691", "PROMPT_TUNING", 1e-2,
     prompt_defaults, prompt_tuning, count_of},
    {"prefix_tuning", "additive: soft prompt", "freeze, add", "2101.00190", "PREFIX_TUNING", 1e-2,
     prefix_defaults, prefix_tuning},
    {"prefix_mlp", "additive: soft prompt", "freeze, add", "2101.00190", "", 2e-3,
     prefix_mlp_defaults, prefix_tuning},
};

}  // namespace

std::span<const Method> prompt_methods() { return kMethods; }

}  // namespace graft::peft
