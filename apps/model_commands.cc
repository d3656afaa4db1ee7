// Commands on a model or an adapter as it is: eval, embed, merge.
#include <cmath>
#include <iostream>
#include <map>
#include <memory>

#include "apps/adapted_model.h"
#include "apps/command.h"
#include "apps/lines.h"
#include "autograd/compile.h"
#include "autograd/evaluate.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "autograd/passes/fold.h"
#include "models/batch.h"
#include "models/save_model.h"
#include "models/weights.h"
#include "peft/adapter_files.h"
#include "peft/combine.h"

namespace graft {
namespace {

struct Eval {
  CommonOptions common;
  std::string model, task;
  std::vector<std::string> adapters;
  int64_t batch = 32;
  TaskOptions data;
};

Json evaluated(const Eval& o, const ModelConfig& config, const Task& task,
               const std::string& adapter) {
  peft::AdapterConfig read{&peft::find_method("head"), Json::object(), {}, {}};
  if (!adapter.empty()) read = peft::read_adapter_config(adapter);
  TrainOptions options;
  options.batch = o.batch;
  options.seed = o.common.seed;
  Trainer trainer(config, task, *read.method, read.config, options);
  if (!adapter.empty()) {
    peft::load_adapter(adapter, read, trainer.adapted().graph, trainer.params());
  }
  Json j = {{"adapter", adapter},
            {"metrics", trainer.evaluate(task.test)},
            {"examples", task.test.size()}};
  if (!task.also.empty()) j["also_metrics"] = trainer.evaluate(task.also);
  return j;
}

void print_metrics(const std::string& what, size_t rows, const std::string& of,
                   const Json& metrics) {
  std::cout << fmt::format("{} on {} rows of {}:", what, rows, of);
  for (const auto& [name, value] : metrics.items())
    std::cout << fmt::format("  {} {:.4f}", name, value.get<double>());
  std::cout << "\n";
}

void run_eval(const Eval& o) {
  const ModelConfig config = load_config(o.model);
  const Task task = task_of(config, o.task, o.data);
  const std::vector<std::string> adapters =
      o.adapters.empty() ? std::vector<std::string>{""} : o.adapters;
  Json all = Json::array();
  for (const std::string& adapter : adapters) {
    const Json& e = all.emplace_back(evaluated(o, config, task, adapter));
    if (o.common.json) continue;
    const std::string& what = adapter.empty() ? o.model : adapter;
    print_metrics(what, task.test.size(), task.name, e["metrics"]);
    if (e.contains("also_metrics"))
      print_metrics(what, task.also.size(), task.also_name, e["also_metrics"]);
  }
  if (!o.common.json) return;
  Json result = all[0];
  if (adapters.size() > 1) result["adapters"] = all;
  print_json(result);
}

struct Embed {
  CommonOptions common;
  std::string model, adapter, file;
};

// One unit vector per text.
std::vector<std::vector<float>> embed(AdaptedModel& m, const Tokenizer& tokenizer,
                                      const std::vector<std::string>& texts) {
  constexpr int64_t kMostTokens = 256, kLengthStep = 8;
  constexpr size_t kBatch = 32;
  const int64_t limit = std::min(kMostTokens, m.max_length());
  std::vector<Example> rows(texts.size());
  for (size_t i = 0; i < texts.size(); ++i)
    rows[i].ids = tokenizer.encode(texts[i], true, limit).ids;
  std::vector<std::vector<float>> vectors(texts.size());
  std::map<std::pair<size_t, int64_t>, std::unique_ptr<Executor>> pool;
  for (const std::vector<size_t>& batch : sorted_batches(rows, kBatch)) {
    const auto longest = static_cast<int64_t>(rows[batch.back()].ids.size());
    const int64_t length = std::min(limit, (longest + kLengthStep - 1) / kLengthStep * kLengthStep);
    auto& executor = pool[{batch.size(), length}];
    if (executor == nullptr) {
      Builder b(cheap_forms(
          m.build({.batch = static_cast<int64_t>(batch.size()), .length = length}).graph));
      b.keep_outputs({"embedding"});
      executor = std::make_unique<Executor>(compile(b.finish(), m.params()), m.params());
    }
    std::vector<TokenRow> encoded;
    for (size_t i : batch) encoded.push_back({rows[i].ids, {}});
    fill_inputs(m.config(), encoded, length, m.in_front(), [&](const std::string& name) {
      return executor->has_input(name) ? &executor->input(name) : nullptr;
    });
    executor->run();
    const Tensor pooled = executor->output("embedding");
    const auto width = static_cast<size_t>(pooled.shape()[1]);
    for (size_t r = 0; r < batch.size(); ++r) {
      const float* x = pooled.data<float>() + r * width;
      double squares = 0;
      for (size_t k = 0; k < width; ++k) squares += static_cast<double>(x[k]) * x[k];
      const double norm = std::max(std::sqrt(squares), 1e-12);
      for (size_t k = 0; k < width; ++k)
        vectors[batch[r]].push_back(static_cast<float>(x[k] / norm));
    }
  }
  return vectors;
}

void run_embed(const Embed& o) {
  const std::vector<std::string> texts = read_lines(o.file);
  AdaptedModel m(o.model, o.adapter, Head::mean_pooled);
  const auto vectors = embed(m, *load_tokenizer(o.model), texts);
  if (o.common.json) {
    print_json({{"embeddings", vectors}});
    return;
  }
  for (const auto& v : vectors) std::cout << fmt::format("{}\n", fmt::join(v, " "));
}

struct Merge {
  CommonOptions common;
  std::string model, output;
  std::vector<std::string> adapters;
  std::vector<double> weights;
  std::string dtype;
  uint64_t shard_bytes = SaveOptions().shard_bytes;
};

// Logits of a graph on a row of scattered tokens.
Tensor probe(const AdaptedModel& m, const Graph& graph, const ParamStore& params, int64_t length) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back((i * 37 + 101) % m.config().vocab);
  Inputs inputs;
  for (const std::string& name : graph.input_names()) {
    inputs[name] = Tensor(DType::i64, graph.type(graph.input(name)).shape);
  }
  const TokenRow row{ids, {}};
  fill_inputs(m.config(), {&row, 1}, length, m.in_front(), [&](const std::string& name) {
    const auto it = inputs.find(name);
    return it == inputs.end() ? nullptr : &it->second;
  });
  return evaluate(graph, inputs, params).outputs.at("logits");
}

// The model under all the adapters, not yet merged.
peft::Combination unmerged(const Merge& o, std::vector<AdaptedModel>& models, int64_t length) {
  if (models.size() == 1 && o.weights.empty()) {
    return {models[0].build({.length = length}).graph, models[0].params()};
  }
  std::vector<peft::WeightedAdapter> adapters;
  for (size_t k = 0; k < models.size(); ++k) {
    adapters.push_back({models[k].build({.length = length}).graph, models[k].params(),
                        o.weights.empty() ? 1 : o.weights[k]});
  }
  const Graph base = models[0].base({.length = length});
  ParamStore params;
  load_parameters(o.model, base, params);
  return peft::combine(base, params, adapters);
}

void run_merge(const Merge& o) {
  if (!o.weights.empty() && o.weights.size() != o.adapters.size()) {
    throw UsageError("--weights has {} numbers for {} adapters; give one for each",
                     o.weights.size(), o.adapters.size());
  }
  std::vector<AdaptedModel> models;
  for (const std::string& adapter : o.adapters) {
    const Json file = peft::read_adapter_config(adapter).raw;
    const Json type = file.value("task_type", Json());
    models.emplace_back(o.model, adapter,
                        type == "CAUSAL_LM"      ? Head::causal_lm
                        : type == "SEQ_2_SEQ_LM" ? Head::seq2seq_lm
                                                 : task_head(load_config(o.model)));
  }
  const AdaptedModel& m = models[0];
  const int64_t length = std::min<int64_t>(16, m.max_length());
  const peft::Combination adapted = unmerged(o, models, length);
  const Folded merged = fold_parameters(adapted.graph, adapted.params);
  const Tensor before = probe(m, adapted.graph, adapted.params, length),
               after = probe(m, merged.graph, merged.params, length);
  double difference = 0;
  for (int64_t i = 0; i < before.elements(); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(before.data<float>()[i]) -
                                                static_cast<double>(after.data<float>()[i])));
  }
  SaveOptions save;
  if (!o.dtype.empty()) save.dtype = dtype_named(o.dtype);
  save.shard_bytes = o.shard_bytes;
  Json config = m.config().raw;
  // An adapter may bring a head for other labels than the model's; their names are not known.
  if (m.labels() > 0 && static_cast<size_t>(m.labels()) != m.config().labels.size()) {
    name_labels(config, m.labels());
  }
  const std::vector<std::string> files =
      save_model(o.output, o.model, config, merged.graph, merged.params, save);
  if (o.common.json) {
    print_json({{"merged_parameters", merged.merged},
                {"max_abs_difference", difference},
                {"files", files}});
  } else {
    std::cout << fmt::format(
        "{} parameters folded into {}; logits differ from the unmerged model's by {:.3g} at most\n",
        merged.merged.size(), o.output, difference);
  }
}

}  // namespace

void add_model_commands(CLI::App& app) {
  const auto [eval, e] = add_command<Eval>(
      app, "eval", "metrics of a model or of adapters on a task's test rows", run_eval);
  add_model_option(*eval, e->model);
  eval->add_option("--adapter", e->adapters, "adapter folder; several are evaluated in turn");
  add_task_options(*eval, e->task, e->data);
  eval->add_option("--batch", e->batch, "rows at once")->check(CLI::PositiveNumber);

  const auto [embed, m] =
      add_command<Embed>(app, "embed", "sentence embeddings, one text a line", run_embed);
  add_model_option(*embed, m->model);
  embed->add_option("--adapter", m->adapter, "adapter folder");
  embed->add_option("file", m->file, "text file, or - for standard input")->required();

  const auto [merge, g] =
      add_command<Merge>(app, "merge", "fold adapters into a plain model folder", run_merge);
  add_model_option(*merge, g->model);
  merge
      ->add_option("--adapter", g->adapters,
                   "adapter folder; the effects of several on the weights add up")
      ->required();
  merge->add_option("--weights", g->weights, "factor of each adapter's effect (default: 1)");
  merge->add_option("--dtype", g->dtype, "type of the weights written (default: as they are)")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}));
  merge->add_option("--shard-bytes", g->shard_bytes, "most bytes of tensors in one file")
      ->check(CLI::PositiveNumber);
  merge->add_option("--output", g->output, "folder to write to")->required();
}

}  // namespace graft
