// The graph: shapes, types and dependencies, no bytes. Built by a Builder, immutable afterwards; a
// rewrite makes a new graph.
#pragma once

#include <compare>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "kernels/attrs.h"

namespace graft {

struct OpDef;

// A place in a graph: one output of one node. Default-constructed: absent.
struct Value {
  int32_t node = -1;
  int32_t output = 0;
  bool valid() const { return node >= 0; }
  auto operator<=>(const Value&) const = default;
};

struct Type {
  DType dtype = DType::f32;
  Shape shape;
  bool operator==(const Type&) const = default;
  size_t bytes() const { return static_cast<size_t>(shape.elements()) * size_of(dtype); }
  std::string str() const;  // "f32[2, 3]"
};

// One input position of one node.
struct Use {
  int32_t node = -1;
  int32_t input = 0;
  auto operator<=>(const Use&) const = default;
};

enum class Phase : uint8_t { forward, backward, update };
std::string_view name_of(Phase phase);

struct Node {
  const OpDef* op = nullptr;
  Attrs attrs;
  std::vector<Value> inputs;  // an absent Value where an optional input is not given
  std::vector<Type> outputs;
  std::string scope;  // where the builder stood: "bert.encoder.layer.0.attention.self.query"
  Phase phase = Phase::forward;
  // Micro-batch: forward and backward of one part stand before those of the next.
  int32_t part = 0;
};

// How the bytes of a parameter begin (methods.md, section 0.2).
struct Init {
  enum class Kind : uint8_t {
    given,             // not drawn: a file or a method writes it into the store
    constant,          // a
    uniform,           // U(a, b)
    normal,            // N(a, sd b)
    truncated_normal,  // N(0, sd b), redrawn beyond 2 sd
  };
  Kind kind = Kind::given;
  double a = 0, b = 0;

  static Init given() { return {}; }
  static Init constant(double v) { return {Kind::constant, v}; }
  static Init zeros() { return constant(0); }
  static Init ones() { return constant(1); }
  static Init uniform(double low, double high) { return {Kind::uniform, low, high}; }
  static Init normal(double sd, double mean = 0) { return {Kind::normal, mean, sd}; }
  static Init truncated_normal(double sd) { return {Kind::truncated_normal, 0, sd}; }
  static Init kaiming_uniform5(int64_t fan_in);                                  // KU5
  static Init kaiming_uniform0(int64_t fan_in);                                  // KU0
  static Init xavier_uniform(int64_t fan_in, int64_t fan_out, double gain = 1);  // XU
  static Init xavier_normal(int64_t fan_in, int64_t fan_out, double gain = 1);   // XN
  bool operator==(const Init&) const = default;
};

// A named leaf. Its bytes live in a ParamStore, shared by all programs.
struct Param {
  enum class Kind : uint8_t {
    weight,  // of the model or of an adapter
    state,   // of the optimizer or a method: changed by assignments, never differentiated
  };
  std::string name;  // the Hugging Face name: "bert.encoder.layer.0.attention.self.query.weight"
  Type type;
  bool trainable = false;
  Kind kind = Kind::weight;
  Init init;
  std::string adapter;               // which adapter brought it; empty: the base model
  double lr_scale = 1;               // its learning rate over its group's
  std::vector<std::string> aliases;  // names of tied layers under which a file may hold it instead
};

// The places that methods know about, the same for every architecture.
enum class Role : uint8_t {
  embedding_tokens,
  embedding_output,
  block_input,
  attention_query,
  attention_key,
  attention_value,
  attention_scores,
  attention_context,
  attention_output,
  attention_block_output,
  mlp_up,
  mlp_gate,
  mlp_activation,
  mlp_down,
  mlp_block_output,
  norm,
  block_output,
  final_hidden,
  head,
  reparametrized,  // stands for a parameter: the value that its uses read in place of the leaf
};
std::string_view name_of(Role role);  // "attention.query"

struct Mark {
  Role role;
  Value value;
  int layer = -1;     // index of the block; -1 outside of blocks
  std::string scope;  // where the builder stood; for Role::reparametrized the parameter's name
};

class Graph {
 public:
  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& node(int32_t id) const { return nodes_[static_cast<size_t>(id)]; }
  const Type& type(Value v) const { return node(v.node).outputs[static_cast<size_t>(v.output)]; }

  const std::vector<Param>& params() const { return params_; }
  const Param* find_param(std::string_view name) const;
  const Param& param(std::string_view name) const;  // throws GraphError when there is none
  Value param_value(std::string_view name) const;   // its leaf; absent when nothing reads it
  Value input(std::string_view name) const;         // absent when there is none
  std::vector<std::string> input_names() const;

  // Named results, in the order in which they were declared.
  const std::vector<std::pair<std::string, Value>>& outputs() const { return outputs_; }
  Value output(std::string_view name) const;  // throws GraphError when there is none
  bool has_output(std::string_view name) const;

  // What a run writes back: the parameter gets the value once everything that reads it has run.
  const std::vector<std::pair<std::string, Value>>& assignments() const { return assignments_; }

  // What must be there at the end of a run: outputs, and what is assigned.
  std::vector<Value> results() const;

  const std::vector<Mark>& marks() const { return marks_; }
  std::vector<Mark> marks(Role role) const;

 private:
  friend class Builder;
  std::vector<Node> nodes_;  // topologically ordered
  std::vector<Param> params_;
  std::vector<std::pair<std::string, Value>> outputs_, assignments_;
  std::vector<Mark> marks_;
};

// For every value of a list of nodes, who reads it.
class Uses {
 public:
  explicit Uses(const std::vector<Node>& nodes);
  const std::vector<Use>& of(Value v) const;

 private:
  std::map<Value, std::vector<Use>> uses_;
};

// Re-derives every type and checks order, arity, names and assignments; throws GraphError naming
// the offending node.
void verify(const Graph& graph);

// One line per node, stable: equal graphs print equally.
// `margin`: what stands before the line of a parameter (or null) or a node (or -1).
using Margin = std::function<std::string(const Param* param, int32_t node)>;
std::string to_text(const Graph& graph, const Margin& margin = nullptr);
// "%12 = linear(%3, %4, %5) f32[2, 8]  @ bert.pooler.dense"
std::string describe_node(const Graph& graph, int32_t id);

}  // namespace graft
