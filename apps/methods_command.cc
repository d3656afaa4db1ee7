// graft methods: what there is, asked of graphs without bytes.
#include <iostream>

#include "apps/command.h"
#include "autograd/passes/fold.h"
#include "core/error.h"
#include "models/model.h"
#include "peft/method.h"

namespace graft {
namespace {

struct Methods {
  CommonOptions common;
};

// Whether everything that the method trains folds into the base model: asked of a small graph.
bool merges(const peft::Method& method) {
  const ModelConfig tiny = parse_config(
      R"({"model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2,
          "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": 12,
          "max_position_embeddings": 64, "type_vocab_size": 2})",
      "a small model");
  Json config = peft::complete_config(method, Json::object());
  const int64_t length = 2 + peft::virtual_tokens(method, config);
  const Graph base =
      build_model(tiny, {.batch = 1, .length = length, .head = Head::mean_pooled, .labels = 2});
  try {
    expect_mergeable(peft::apply(base, method, config).graph);
  } catch (const GraphError&) {
    return false;
  }
  return true;
}

void run_methods(const Methods& o) {
  Json list = Json::array();
  for (const peft::Method& m : peft::all_methods()) {
    list.push_back({{"name", m.name},
                    {"class", m.family},
                    {"verbs", m.verbs},
                    {"mergeable", merges(m)},
                    {"reference", m.reference},
                    {"peft_type", m.peft_type},
                    {"learning_rate", m.learning_rate},
                    {"hyperparameters", peft::complete_config(m, Json::object())}});
  }
  if (o.common.json) {
    print_json({{"methods", list}});
    return;
  }
  for (const Json& m : list) {
    std::cout << fmt::format("{:16} {:22} {:22} {:7} {}\n", m["name"].get<std::string>(),
                             m["class"].get<std::string>(), m["verbs"].get<std::string>(),
                             m["mergeable"] == true ? "merges" : "",
                             m["reference"].get<std::string>());
    std::cout << fmt::format("{:16} lr {}", "", m["learning_rate"].get<double>());
    for (const auto& [key, value] : m["hyperparameters"].items()) {
      std::cout << fmt::format(", {} {}", key, value.dump());
    }
    std::cout << "\n";
  }
}

}  // namespace

void add_methods_command(CLI::App& app) {
  add_command<Methods>(app, "methods", "every method, its hyperparameters and defaults",
                       run_methods);
}

}  // namespace graft
