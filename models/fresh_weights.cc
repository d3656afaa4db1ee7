#include "models/fresh_weights.h"

#include <cmath>

#include "autograd/builder.h"
#include "models/config_reader.h"
#include "models/family.h"

namespace graft {
namespace {

// What a parameter does, by the ops that read it.
enum class Purpose : uint8_t { weight, gain, gain_less_one, bias };

Purpose purpose_of(const Graph& graph, const Uses& uses, Value v) {
  for (const Use& use : uses.of(v)) {
    const std::string_view op = graph.node(use.node).op->name;
    const bool norm = op == "layer_norm" || op == "rms_norm";
    if (norm) return use.input == 1 ? Purpose::gain : Purpose::bias;
    if (op == "add_scalar") return Purpose::gain_less_one;  // 1 + w
    if (op == "linear" && use.input == 2) return Purpose::bias;
    if (op == "transpose") return purpose_of(graph, uses, {use.node, 0});
  }
  return Purpose::weight;
}

// Standard deviations of weights as the families' _init_weights have them.
class Deviations {
 public:
  explicit Deviations(const ModelConfig& config)
      : c_(config), file_(config.folder + "/config.json") {
    ConfigReader r(config.raw, file_);
    t5_ = c_.family->kind == Family::Kind::encoder_decoder;
    range_ = t5_                      ? r.real("initializer_factor", 0, 1e3, 1.0)
             : c_.model_type == "opt" ? r.real("init_std", 0, 1e3, 0.02)
                                      : r.real("initializer_range", 0, 1e3, 0.02);
  }

  double of(const Param& p) const {
    if (t5_) return range_ * of_t5(p);
    // Each of the 2 L layers that end in a residual adds to it (GPT-2, section 2.3).
    if (c_.model_type == "gpt2" && p.name.ends_with("c_proj.weight"))
      return range_ / std::sqrt(2 * static_cast<double>(c_.layers));
    return range_;
  }

 private:
  // Scores are not scaled in the graph, but here.
  double of_t5(const Param& p) const {
    const auto columns = static_cast<double>(p.type.shape[-1]);
    if (p.name.ends_with("shared.weight") || p.name.ends_with("lm_head.weight")) return 1;
    if (p.name.ends_with("relative_attention_bias.weight"))
      return 1 / std::sqrt(static_cast<double>(c_.hidden));
    if (p.name.ends_with("Attention.q.weight"))
      return 1 / std::sqrt(columns * static_cast<double>(c_.head_size));
    return 1 / std::sqrt(columns);
  }

  const ModelConfig& c_;
  std::string file_;
  bool t5_ = false;
  double range_ = 0;
};

}  // namespace

Graph with_fresh_weights(const Graph& model, const ModelConfig& config) {
  const Deviations deviations(config);
  const Uses uses(model.nodes());
  Builder b(model);
  for (const Param& p : model.params()) {
    if (p.init.kind != Init::Kind::given || p.kind == Param::Kind::state) continue;
    Init& init = b.param_ref(p.name).init;
    switch (purpose_of(model, uses, model.param_value(p.name))) {
      case Purpose::gain:
        init = Init::ones();
        break;
      case Purpose::gain_less_one:
      case Purpose::bias:
        init = Init::zeros();
        break;
      case Purpose::weight:
        init = Init::normal(deviations.of(p));
    }
  }
  return b.finish();
}

}  // namespace graft
