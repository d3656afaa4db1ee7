#include "apps/model_commands.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <memory>

#include "autograd/evaluate.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fold.h"
#include "autograd/planner.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "peft/adapter_files.h"
#include "train/trainer.h"

namespace graft {
namespace {

// A mean-pooled encoder of one shape, adapted if an adapter is named, with its parameters.
class AdaptedModel {
 public:
  AdaptedModel(const std::string& model, const std::string& adapter)
      : config_(load_config(model)), adapter_(adapter) {
    if (!adapter_.empty()) {
      adapter_config_ = peft::read_adapter_config(adapter_);
      const SafeTensors file = SafeTensors::open(adapter_ + "/adapter_model.safetensors");
      for (const auto& [name, t] : file.tensors()) {
        if (name.ends_with("classifier.weight") && t.shape().rank() == 2) labels_ = t.shape()[0];
      }
      virtual_tokens_ = peft::virtual_tokens(*adapter_config_.method, adapter_config_.config);
    }
    const peft::Adapted adapted = build(1, 8);
    load_parameters(model, adapted.graph, store_);
    peft::initialize(adapted, store_, 0);
    if (!adapter_.empty()) peft::load_adapter(adapter_, adapter_config_, adapted.graph, store_);
  }

  peft::Adapted build(int64_t batch, int64_t length) const {
    const Graph base = build_encoder(config_, {.batch = batch,
                                               .length = length + virtual_tokens_,
                                               .head = Head::mean_pooled,
                                               .labels = labels_});
    if (adapter_.empty()) {
      peft::Adapted same;
      same.graph = base;
      return same;
    }
    return peft::apply(base, *adapter_config_.method, adapter_config_.config);
  }

  Inputs inputs(const std::vector<int64_t>& ids) const {
    const auto length = static_cast<int64_t>(ids.size());
    Inputs in;
    for (const char* name :
         {"input_ids", "attention_mask", "pool_mask", "position_ids", "token_type_ids"}) {
      in[name] = Tensor(DType::i64, {1, length + virtual_tokens_});
    }
    const EncoderRow row{ids, {}};
    fill_encoder_inputs(config_, {&row, 1}, length, virtual_tokens_,
                        [&](const std::string& name) -> Tensor& { return in.at(name); });
    return in;
  }

  const ModelConfig& config() const { return config_; }
  ParamStore& params() { return store_; }

 private:
  ModelConfig config_;
  std::string adapter_;
  peft::AdapterConfig adapter_config_;
  int64_t labels_ = 2, virtual_tokens_ = 0;
  ParamStore store_;
};

}  // namespace

Json evaluate_model(const std::string& model, const std::string& adapter, const std::string& spec,
                    int64_t batch, int64_t max_length) {
  const ModelConfig config = load_config(model);
  const Task task = load_task(spec, *load_tokenizer(model), {.max_length = max_length});
  const peft::Method* method = &peft::find_method("head");
  Json hyperparameters = Json::object();
  peft::AdapterConfig read;
  if (!adapter.empty()) {
    read = peft::read_adapter_config(adapter);
    method = read.method;
    hyperparameters = read.config;
  }
  Trainer trainer(config, task, *method, hyperparameters, {.batch = batch});
  if (!adapter.empty())
    peft::load_adapter(adapter, read, trainer.adapted().graph, trainer.params());
  return {{"metrics", {{task.metric, trainer.evaluate(task.test)}}},
          {"examples", task.test.size()}};
}

Json embed_texts(const std::string& model, const std::string& adapter,
                 const std::vector<std::string>& texts) {
  AdaptedModel m(model, adapter);
  const auto tokenizer = load_tokenizer(model);
  std::map<int64_t, std::unique_ptr<Executor>> by_length;
  Json embeddings = Json::array();
  for (const std::string& text : texts) {
    const std::vector<int64_t> ids =
        tokenizer->encode(text, true, std::min<int64_t>(256, m.config().max_positions)).ids;
    const auto length = static_cast<int64_t>(ids.size());
    auto& executor = by_length[length];
    if (executor == nullptr) {
      Builder b(cheap_forms(m.build(1, length).graph));
      const Value e = b.graph().output("embedding");
      b.output("unit", ops::div(b, e, ops::l2_norm(b, {e})));
      b.keep_outputs({"unit"});
      executor =
          std::make_unique<Executor>(std::make_shared<const Program>(plan(b.finish())), m.params());
    }
    const Inputs inputs = m.inputs(ids);
    for (const std::string& name : executor->program().graph.input_names())
      executor->set_input(name, inputs.at(name));
    executor->run();
    const Tensor unit = executor->output("unit");
    embeddings.push_back(
        std::vector<float>(unit.data<float>(), unit.data<float>() + unit.elements()));
  }
  return {{"embeddings", embeddings}};
}

Json merge_adapter(const std::string& model, const std::string& adapter,
                   const std::string& output) {
  AdaptedModel m(model, adapter);
  std::vector<int64_t> probe;
  for (int64_t i = 0; i < 16; ++i) probe.push_back((i * 37 + 101) % m.config().vocab);
  const Graph graph = m.build(1, static_cast<int64_t>(probe.size())).graph;
  const Folded merged = fold_parameters(graph, m.params());
  const Inputs inputs = m.inputs(probe);
  const Tensor before = evaluate(graph, inputs, m.params()).outputs.at("logits");
  const Tensor after = evaluate(merged.graph, inputs, merged.params).outputs.at("logits");
  double difference = 0;
  for (int64_t i = 0; i < before.elements(); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(before.data<float>()[i]) -
                                                static_cast<double>(after.data<float>()[i])));
  }
  make_folders(output);
  std::map<std::string, Tensor> tensors;
  const SafeTensors file = SafeTensors::open(model + "/model.safetensors");
  for (const auto& [name, t] : file.tensors()) tensors[name] = t;
  int64_t count = 0;
  for (const Param& p : merged.graph.params()) {
    const std::string with_class = m.config().model_type + "." + p.name;
    tensors[tensors.contains(with_class) ? with_class : p.name] = merged.params.get(p.name);
    count += p.type.shape.elements();
  }
  save_safetensors(output + "/model.safetensors", tensors);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
                           "special_tokens_map.json"}) {
    const std::string from = model + "/" + name;
    if (std::filesystem::exists(from)) write_file(output + "/" + name, read_file(from));
  }
  return {{"merged_parameters", merged.merged},
          {"parameters", count},
          {"max_abs_difference", difference}};
}

Json inspect_path(const std::string& path) {
  Json j = {{"path", path}, {"config", nullptr}, {"tensors", Json::array()}};
  std::vector<std::string> files;
  if (std::filesystem::is_directory(path)) {
    for (const char* name : {"config.json", "adapter_config.json"}) {
      if (std::filesystem::exists(path + "/" + name))
        j["config"] = parse_json_file(path + "/" + name);
    }
    for (const char* name : {"model.safetensors", "adapter_model.safetensors"}) {
      if (std::filesystem::exists(path + "/" + name)) files.push_back(path + "/" + name);
    }
    if (files.empty())
      throw FileError("'{}' holds neither model.safetensors nor adapter_model.safetensors", path);
  } else {
    files.push_back(path);
  }
  for (const std::string& file : files) {
    const SafeTensors st = SafeTensors::open(file);
    for (const auto& [name, t] : st.tensors()) {
      j["tensors"].push_back(
          {{"name", name},
           {"dtype", name_of(t.dtype())},
           {"shape", std::vector<int64_t>(t.shape().dims().begin(), t.shape().dims().end())}});
    }
  }
  return j;
}

Json plan_step(const std::string& model, const std::string& method_name, const Json& set,
               int64_t batch, int64_t length, int64_t labels) {
  const ModelConfig config = load_config(model);
  const peft::Method& method = peft::find_method(method_name);
  Json hyperparameters = set;
  hyperparameters["modules_to_save"] = {"classifier"};
  const Json full = peft::complete_config(method, hyperparameters);
  const int64_t virtual_tokens = peft::virtual_tokens(method, full);
  const Graph base = build_encoder(config, {.batch = batch,
                                            .length = length + virtual_tokens,
                                            .head = Head::mean_pooled,
                                            .labels = labels});
  const peft::Adapted adapted = peft::apply(base, method, hyperparameters, {.training = true});
  const Program program = plan(training_step(adapted, labels, {}, method.learning_rate));
  int64_t total = 0;
  size_t adapter_bytes = 0;
  for (const Param& p : adapted.graph.params()) {
    if (is_float(p.type.dtype)) total += p.type.shape.elements();
    if (p.trainable) adapter_bytes += p.type.bytes();
  }
  const MemoryParts parts = memory_parts(program);
  return {{"total_parameters", total},
          {"trainable_parameters", peft::trainable_count(adapted.graph, false)},
          {"adapter_bytes", adapter_bytes},
          {"peak_bytes", program.peak_bytes()},
          {"parts",
           {{"weights", parts.weights},
            {"adapters", parts.adapters},
            {"gradients", parts.gradients},
            {"optimizer", parts.optimizer},
            {"kept_activations", parts.activations},
            {"workspace", parts.workspace},
            {"inputs", parts.inputs}}},
          {"flops_per_step", program.flops},
          {"recompute_flops_per_step", 0}};
}

}  // namespace graft
