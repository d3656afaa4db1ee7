// Bottleneck adapters: Compacter (methods.md 7.2, 2106.04647), Houlsby (methods.md 1.1,
// 1902.00751), Pfeiffer (1.2, 2005.00247), parallel and scaled parallel (1.3, 2110.04366). Names of
// parameters are AdapterHub's.
#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "core/error.h"
#include "peft/methods/methods.h"

namespace graft::peft {
namespace {

struct Bottleneck {
  Rewrite& r;
  const Json& config;
  std::string path;  // "bert.encoder.layer.0.output.adapters.NAME"
  int64_t width;     // of the model

  std::string name(const char* part) const { return path + "." + part; }
  int64_t inner() const {
    const double factor = config.at("reduction_factor").get<double>();
    // Less than 1 widens; a thousandfold is more than anyone means.
    constexpr double kLeast = 1e-3;
    if (!(factor >= kLeast))
      throw UsageError("reduction_factor should be at least {} but is {}", kLeast, factor);
    return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(width) / factor));
  }

  // sigma(x Wd^T + bd) Wu^T + bu, scaled
  Value branch(Builder& b, Value x) const {
    const bool norm = config.at("ln_before").get<bool>();
    Value h = norm ? layer_norm(b, x, "adapter_norm_before") : x;
    h = layer(b, h, norm ? "adapter_down.1" : "adapter_down.0", width, inner(), true);
    h = ops::activation(b, h, config.at("non_linearity").get_ref<const std::string&>());
    h = scaled(b, layer(b, h, "adapter_up", inner(), width, false));
    h = r.dropout(h, config.at("dropout").get<double>(), path);
    if (config.at("use_gating").get<bool>()) h = ops::mul(b, h, gate(r, b, x, name("gate")));
    return config.at("ln_after").get<bool>() ? layer_norm(b, h, "adapter_norm_after") : h;
  }

  Value scaled(Builder& b, Value h) const {
    const Json& scaling = config.at("scaling");
    if (scaling == "learned") return ops::mul(b, h, r.param(name("scaling"), {1}, Init::ones()));
    if (scaling == "channel") {
      return ops::mul(b, h, r.param(name("scaling"), {width}, Init::ones()));
    }
    if (!scaling.is_number()) {
      throw UsageError("scaling should be a number, \"learned\" or \"channel\" but is {}",
                       scaling.dump());
    }
    return ops::scale(b, h, scaling.get<double>());
  }

  Value layer_norm(Builder& b, Value x, const char* part) const {
    const std::string at = name(part);
    return ops::layer_norm(b, x, r.param(at + ".weight", {width}, Init::ones()),
                           r.param(at + ".bias", {width}, Init::zeros()), 1e-5);
  }

  Value layer(Builder& b, Value x, const char* part, int64_t in, int64_t out, bool down) const {
    if (config.contains("phm_dim")) return phm_layer(b, x, part, in, out);
    const auto& mode = config.at("init_weights").get_ref<const std::string&>();
    const bool identity = mode == "mam_adapter";
    if (!identity && mode != "bert") {
      throw UsageError("init_weights should be bert or mam_adapter but is '{}'", mode);
    }
    const Init init = !identity ? Init::normal(0.02)
                      : down    ? Init::kaiming_uniform5(in)
                                : Init::zeros();
    const std::string at = name(part);
    return ops::linear(b, x, r.param(at + ".weight", {out, in}, init),
                       r.param(at + ".bias", {out}, Init::zeros()));
  }

  // y = x H + b with H = sum_i A_i (x) (L_i R_i): the A_i [n, n] are shared by all adapters of the
  // model (methods.md 7.2).
  Value phm_layer(Builder& b, Value x, const char* part, int64_t in, int64_t out) const {
    const auto n = config.at("phm_dim").get<int64_t>(), rank = config.at("phm_rank").get<int64_t>();
    if (n < 1 || rank < 1 || in % n != 0 || out % n != 0) {
      throw UsageError("phm_dim {} must divide the width {} and the bottleneck {}", n, width,
                       inner());
    }
    const size_t encoder = path.find("encoder.layer.");
    const std::string backbone = encoder == std::string::npos ? "" : path.substr(0, encoder);
    const std::string at = name(part);
    const double gain = std::sqrt(2.0);
    const Value rule =
        r.param(backbone + "shared_parameters.default.phm_rule", {n, n, n}, Init::normal(1e-4));
    const Value left =
        r.param(at + ".W_left", {n, in / n, rank}, Init::xavier_uniform(in / n, rank, gain));
    const Value right =
        r.param(at + ".W_right", {n, rank, out / n}, Init::xavier_uniform(rank, out / n, gain));
    const Value blocks = ops::reshape(b, ops::matmul(b, left, right), {n, 1, in / n, 1, out / n});
    const Value kronecker = ops::mul(b, ops::reshape(b, rule, {n, n, 1, n, 1}), blocks);
    const Value h = ops::reshape(b, ops::sum(b, kronecker, {0}), {in, out});
    return ops::add(b, ops::matmul(b, x, h), r.param(at + ".b", {out}, Init::zeros()));
  }
};

// Where the last linear of a sublayer stands, also below a norm: its name without the layer itself
// ("...layer.0.output" for "...layer.0.output.dense").
std::string place_of(const Mark& m, const char* position, Rewrite& r) {
  const int32_t product = product_behind(r.builder().graph(), m.value);
  const std::string& scope = r.builder_scope({product >= 0 ? product : m.value.node, 0});
  return fmt::format("{}.adapters.{}", scope.substr(0, scope.rfind('.')), position);
}

// Where a block adds its MLP's result u to the stream.
struct Residual {
  Value stream;
  int32_t norm = -1;  // node behind the sum; -1: none stands there inside the block
};
Residual residual_of(const Builder& b, const Mark& u) {
  const Graph& g = b.graph();
  const auto outputs = g.marks(Role::block_output);
  const auto output = std::ranges::find(outputs, u.layer, &Mark::layer);
  for (const Use& use : b.uses(u.value)) {
    if (g.node(use.node).op->name != "add") continue;
    const Value sum{use.node, 0}, stream = g.node(use.node).inputs[use.input == 0 ? 1 : 0];
    if (output != outputs.end() && output->value == sum) return {stream};
    for (const Use& reader : b.uses(sum)) {
      if (g.node(reader.node).op->name == "layer_norm") return {stream, reader.node};
    }
  }
  throw UsageError("the result of '{}' is not added to the residual stream",
                   g.node(u.value.node).scope);
}

bool left_out(const Json& config, int layer) {
  const Json& out = config.at("leave_out");
  return std::ranges::find(out, Json(layer)) != out.end();
}

void houlsby(Rewrite& r, const Json& config) {
  for (Role role : {Role::attention_block_output, Role::mlp_block_output}) {
    for (const Mark& m : r.marks(role)) {
      if (left_out(config, m.layer)) continue;
      const Bottleneck a{r, config, place_of(m, "default", r), r.builder().shape(m.value)[-1]};
      r.add_after(m.value, [&](Builder& b, Value h) { return ops::add(b, h, a.branch(b, h)); });
    }
  }
}

}  // namespace

// z = LN(u + x1); u' = u + branch(z); y = LN(u' + x1): the frozen norm serves twice. Where blocks
// begin with their norms there is none to share, and z = u + x1.
void pfeiffer(Rewrite& r, const Json& config) {
  for (const Mark& m : r.marks(Role::mlp_block_output)) {
    if (left_out(config, m.layer)) continue;
    const Residual residual = residual_of(r.builder(), m);
    const bool post_norm = residual.norm >= 0;
    const Node norm = post_norm ? r.builder().graph().node(residual.norm) : Node{};
    const Bottleneck a{r, config, place_of(m, "default", r), r.builder().shape(m.value)[-1]};
    r.add_after(m.value, [&](Builder& b, Value u) {
      Value z = ops::add(b, u, residual.stream);
      if (post_norm) {
        std::vector<Value> in = norm.inputs;
        in[0] = z;
        z = b.node("layer_norm", in, norm.attrs);
      }
      return ops::add(b, u, a.branch(b, z));
    });
  }
}

void parallel(Rewrite& r, const Json& config) {
  for (const Mark& m : r.marks(Role::mlp_block_output)) {
    if (left_out(config, m.layer)) continue;
    const auto inputs = r.marks(Role::attention_output);
    const auto input = std::ranges::find(inputs, m.layer, &Mark::layer);
    if (input == inputs.end())
      throw UsageError("block {} does not mark the input of its MLP", m.layer);
    const Bottleneck a{r, config, place_of(m, "default", r), r.builder().shape(m.value)[-1]};
    r.add_after(m.value,
                [&](Builder& b, Value y) { return ops::add(b, y, a.branch(b, input->value)); });
  }
}

namespace {

Json config_of(double reduction, const char* activation, const char* init, Json scaling) {
  return {{"reduction_factor", reduction},
          {"non_linearity", activation},
          {"init_weights", init},
          {"scaling", std::move(scaling)},
          {"ln_before", false},
          {"ln_after", false},
          {"use_gating", false},
          {"dropout", 0.0},
          {"leave_out", Json::array()}};
}
Json compacter_defaults() {
  Json d = config_of(32.0, "gelu", "bert", 1.0);
  d["phm_dim"] = 4;
  d["phm_rank"] = 1;
  return d;
}
Json houlsby_defaults() { return config_of(16.0, "swish", "bert", 1.0); }
Json scaled_defaults() { return config_of(2.0, "relu", "mam_adapter", "learned"); }

}  // namespace

Json pfeiffer_defaults() { return config_of(16.0, "relu", "bert", 1.0); }
Json parallel_defaults() { return config_of(2.0, "relu", "mam_adapter", 4.0); }

namespace {

const Method kMethods[] = {
    {"houlsby", "additive: adapter", "freeze, add", "1902.00751", "", 2e-3, houlsby_defaults,
     houlsby},
    {"pfeiffer", "additive: adapter", "freeze, add", "2005.00247", "", 2e-3, pfeiffer_defaults,
     pfeiffer},
    {"parallel", "additive: adapter", "freeze, add", "2110.04366", "", 1e-3, parallel_defaults,
     parallel},
    {"scaled_parallel", "additive: adapter", "freeze, add", "2110.04366", "", 1e-3, scaled_defaults,
     parallel},
    {"compacter", "additive: adapter", "freeze, add", "2106.04647", "", 5e-3, compacter_defaults,
     houlsby},
    {"compacter++", "additive: adapter", "freeze, add", "2106.04647", "", 5e-3, compacter_defaults,
     pfeiffer},
};

}  // namespace

std::span<const Method> bottleneck_methods() { return kMethods; }

}  // namespace graft::peft
