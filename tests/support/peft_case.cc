#include "tests/support/peft_case.h"

#include "core/random.h"
#include "models/weights.h"

namespace graft::testing {

const std::map<std::string, Promise>& promises() {
  static const std::map<std::string, Promise> table = {
      {"full", {true, true}},
      {"head", {true, true}},
      {"top_layers", {true, true}},
      {"bitfit", {true, true}},
      {"ln_tuning", {true, true}},
      {"lora", {true, true}},
      {"rslora", {true, true}},
      {"dora", {true, true}},
      {"ia3", {true, true}},
      {"adalora", {true, true}},
      {"fish_mask", {true, true}},
      {"diff_pruning", {true, true}},
      {"intrinsic", {true, true}},
      {"parallel", {true, false}},
      {"scaled_parallel", {true, false}},
      {"compacter", {true, false}},
      {"compacter++", {true, false}},
      {"houlsby", {false, false}},
      {"pfeiffer", {false, false}},
      {"prompt_tuning", {false, false}},
      {"prefix_tuning", {false, false}},
      {"prefix_mlp", {false, false}},
      {"mam", {false, false}},
      {"unipelt", {false, false}},
      {"lst", {false, false}},
  };
  return table;
}

Json small_settings(const std::string& method) {
  if (method == "top_layers") return {{"n", 1}};
  // Within the budget: what is pruned ends as it began.
  if (method == "adalora") return {{"init_r", 4}, {"target_r", 4}, {"total_step", 10}};
  if (method.starts_with("compacter")) return {{"reduction_factor", 4}, {"phm_dim", 2}};
  if (method == "intrinsic") return {{"intrinsic_dim", 200}};
  if (method == "fish_mask") return {{"keep_ratio", 0.05}};
  if (method == "lst") return {{"reduction_factor", 2}};
  if (method == "prompt_tuning" || method == "prefix_tuning") return {{"num_virtual_tokens", 3}};
  if (method == "pfeiffer" || method == "houlsby") return {{"reduction_factor", 3}};
  Json projected = {{"num_virtual_tokens", 3}, {"encoder_hidden_size", 7}};
  if (method == "unipelt") projected["reduction_factor"] = 3;
  if (method == "prefix_mlp" || method == "mam" || method == "unipelt") return projected;
  return Json::object();
}

void fill_store(const peft::Adapted& adapted, const std::string& folder, ParamStore& store) {
  load_parameters(folder, adapted.graph, store);
  peft::initialize(adapted, store, 3);
  std::map<std::string, Tensor> information;
  for (const std::string& name : adapted.fisher.params)
    information[name] = draw(Init::uniform(0, 1), adapted.graph.param(name).type, 9, name);
  if (!information.empty()) adapted.fisher.start(information, store);
}

void disturb(const Graph& graph, ParamStore& store, float by) {
  for (const Param& p : graph.params()) {
    if (!p.trainable) continue;
    Tensor t = store.get(p.name).clone();
    const RandomStream random(5, hash_name(p.name));
    for (int64_t i = 0; i < t.elements(); ++i)
      t.data<float>()[i] += by * static_cast<float>(random.normal(static_cast<uint64_t>(i)));
    store.set(p.name, t);
  }
}

}  // namespace graft::testing
