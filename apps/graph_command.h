// Draws a model, or what a method makes of it: graft graph.
#pragma once

#include <cstdint>
#include <string>

#include "core/json.h"

namespace graft {

struct GraphCommandOptions {
  std::string model;              // a model folder, or a config.json alone: no weights are read
  std::string method;             // empty: the base model
  Json set = Json::object();      // hyperparameters of the method
  std::string task_kind;          // see apps/step_command.h
  bool task_less = false;         // without the task's head
  std::string output;             // FILE.svg, FILE.dot or FILE.txt
  bool dropout = false;           // the model's own, as in training
  bool backward = false;          // with loss and gradient, as a training step has them
  std::string detail = "blocks";  // or "all"
  int64_t batch = 1, length = 8, labels = 0;
};

// Writes the picture; returns what was drawn: nodes, added and rewired by the method, frozen and
// trainable parameters. Throws UsageError for what cannot be drawn, and, for an .svg without
// Graphviz, DeviceError naming the package.
Json draw_graph(const GraphCommandOptions& options);

// Lays out DOT text with Graphviz' program `dot`.
std::string render_svg(const std::string& dot);

}  // namespace graft
