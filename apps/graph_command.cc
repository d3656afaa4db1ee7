#include "apps/graph_command.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <tuple>
#include <vector>

#include "apps/step_command.h"
#include "autograd/draw.h"
#include "autograd/gradient.h"
#include "autograd/ops.h"
#include "autograd/passes/cheap_forms.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "models/model.h"
#include "peft/method.h"
#include "train/step.h"

extern char** environ;

namespace graft {
namespace {

// A folder of our own that goes with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_(std::filesystem::temp_directory_path() / "graft-graph-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr)
      throw FileError("cannot make the folder '{}': {}", path_, std::strerror(errno));
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Drawn {
  Graph graph;
  Delta delta;                    // in the numbers of the graph
  size_t added = 0, rewired = 0;  // by the method
};

// The base model; with the loss where its gradient is wanted.
Graph base_graph(const ModelConfig& config, const GraphCommandOptions& o, int64_t virtual_tokens) {
  const TaskKind kind = task_kind_of(o.task_kind, config);
  ModelOptions shape{.batch = o.batch,
                     .length = o.length + virtual_tokens,
                     .target_length = o.length,
                     .head = o.task_less ? Head::none : training_head(config, kind),
                     .labels = kind == TaskKind::regression ? 1 : o.labels,
                     .dropout = o.dropout};
  Graph base = build_model(config, shape);
  if (!o.backward) return base;
  Builder b(base);
  b.output("loss", task_loss(b, b.graph().output("logits"), kind));
  return b.finish();
}

Drawn build(const ModelConfig& model, const GraphCommandOptions& o) {
  if (o.method.empty()) {
    if (o.backward)
      throw UsageError("--backward draws what a method trains: name one with --method (or full)");
    return {.graph = base_graph(model, o, 0)};
  }
  const peft::Method& method = peft::find_method(o.method);
  const Json config =
      training_config(model, method, o.set, StepOptions().steps, task_kind_of(o.task_kind, model));
  const int64_t rows = peft::virtual_tokens(method, config);
  peft::Adapted adapted = peft::apply(base_graph(model, o, rows), method, config,
                                      {.model = model.model_type, .training = o.backward});
  Drawn drawn{adapted.graph, adapted.delta, adapted.delta.added.size(),
              adapted.delta.rewired.size()};
  if (!o.backward) return drawn;

  // As in a training step: products in their cheap form, then the gradient.
  Delta cheap, joint;
  Builder b(cheap_forms(adapted.graph, &cheap));
  const Value loss = peft::add_penalties(b, b.graph().output("loss"));
  b.output("loss", loss);
  b.keep_outputs({"loss"});
  for (const auto& [name, g] : gradient(b, loss)) b.output("grad/" + name, g);
  drawn.graph = b.finish(&joint);
  drawn.delta = then(then(adapted.delta, cheap), joint);
  return drawn;
}

std::string title_of(const ModelConfig& model, const GraphCommandOptions& o) {
  return fmt::format("{}{}, {} layers, {} wide", o.method.empty() ? "" : o.method + " on ",
                     model.model_type, model.layers, model.hidden);
}

}  // namespace

std::string render_svg(const std::string& dot) {
  const TemporaryFolder folder;
  const std::string in = folder.path() + "/graph.dot", out = folder.path() + "/graph.svg",
                    messages = folder.path() + "/messages";
  write_file(in, dot);
  std::vector<std::string> arguments = {"dot", "-Tsvg", "-o", out, in};
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, messages.c_str(), O_WRONLY | O_CREAT,
                                   0600);
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, "dot", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error == 0) {
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  // Some systems report a missing program as the child's status 127.
  if (error == ENOENT || (WIFEXITED(status) && WEXITSTATUS(status) == 127)) {
    throw DeviceError(
        "an .svg is laid out by Graphviz, whose program 'dot' was not found: install the package "
        "'graphviz', or write a .dot or .txt file");
  }
  if (error != 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    const std::string said = error != 0 ? std::strerror(error) : read_file(messages);
    throw DeviceError("Graphviz' program 'dot' failed: {}", said.substr(0, 500));
  }
  return read_file(out);
}

Json draw_graph(const GraphCommandOptions& o) {
  const std::string kind = std::filesystem::path(o.output).extension();
  if (kind != ".svg" && kind != ".dot" && kind != ".txt") {
    throw UsageError("a graph is drawn to FILE.svg, FILE.dot or FILE.txt, not to '{}'", o.output);
  }
  if (o.backward && o.task_less)
    throw UsageError("--backward needs a loss, and without a task's head there is none");
  const Detail detail = detail_of(o.detail);
  const ModelConfig model = load_config(o.model);
  const Drawn drawn = build(model, o);
  std::string text;
  if (kind == ".txt") {
    text = o.method.empty() ? to_text(drawn.graph) : to_text(drawn.graph, drawn.delta);
  } else {
    text = to_dot(drawn.graph, drawn.delta, {.detail = detail, .title = title_of(model, o)});
    if (kind == ".svg") text = render_svg(text);
  }
  write_file(o.output, text);

  int64_t frozen = 0, trainable = 0;
  for (const Param& p : drawn.graph.params()) ++(p.trainable ? trainable : frozen);
  const auto in_phase = [&](Phase phase) {
    return std::ranges::count(drawn.graph.nodes(), phase, &Node::phase);
  };
  return {{"output", o.output},
          {"nodes", drawn.graph.nodes().size()},
          {"forward", in_phase(Phase::forward)},
          {"backward", in_phase(Phase::backward)},
          {"added", drawn.added},
          {"rewired", drawn.rewired},
          {"frozen", frozen},
          {"trainable", trainable}};
}

namespace {

struct GraphCommand {
  CommonOptions common;
  MethodOptions method{"", {}};
  GraphCommandOptions draw;
};

void run_graph(const GraphCommand& o) {
  GraphCommandOptions draw = o.draw;
  if (!o.method.method.empty()) {
    const auto [method, set] = method_of(o.method);
    draw.method = method->name;
    draw.set = set;
  }
  const Json drawn = draw_graph(draw);
  if (o.common.json) {
    print_json(drawn);
    return;
  }
  std::cout << fmt::format(
      "{} nodes, {} added and {} operands rewired by the method, drawn to {}\n",
      drawn["nodes"].get<int64_t>(), drawn["added"].get<int64_t>(), drawn["rewired"].get<int64_t>(),
      draw.output);
}

}  // namespace

void add_graph_command(CLI::App& app) {
  const auto [graph, g] = add_command<GraphCommand>(
      app, "graph", "draw a model, or what a method makes of it", run_graph);
  graph->add_option("--model", g->draw.model, "Hugging Face model folder, or a config.json alone")
      ->required();
  add_method_options(*graph, g->method);
  graph->add_option("--output", g->draw.output, "FILE.svg, FILE.dot or FILE.txt")->required();
  graph->add_flag("--backward", g->draw.backward, "with the loss and the gradient");
  add_dropout_option(*graph, g->draw.dropout);
  graph->add_flag("--task-less", g->draw.task_less, "without the task's head");
  graph->add_option("--detail", g->draw.detail, "blocks (equal ones folded) or all");
  graph->add_option("--batch", g->draw.batch, "rows")->check(CLI::PositiveNumber);
  graph->add_option("--length", g->draw.length, "tokens per row")->check(CLI::PositiveNumber);
  add_task_kind_options(*graph, g->draw.task_kind, g->draw.labels);
}

}  // namespace graft
