// Builds graphs, from nothing or as a rewrite of another one.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/delta.h"
#include "autograd/graph.h"
#include "autograd/op.h"

namespace graft {

class Builder {
 public:
  Builder() = default;
  explicit Builder(const Graph& base);  // a rewrite: values keep their numbers until finish()

  // ---- leaves
  Value input(std::string name, DType dtype, Shape shape);
  // Declares a parameter and returns its leaf; the same declaration again returns the same leaf.
  Value param(const Param& param);
  Value param_value(std::string_view name);  // leaf of a declared parameter
  Value constant(double value, Shape shape = {}, DType dtype = DType::f32);

  // ---- nodes. Types are inferred and errors thrown here.
  Value node(std::string_view op, std::vector<Value> inputs, Attrs attrs = Attrs::of(NoAttrs{}));
  void output(std::string name, Value v);                    // declares or replaces a named result
  void keep_outputs(const std::vector<std::string>& names);  // forgets the other results
  void assign(std::string param, Value v);                   // replaces an earlier one
  void mark(Role role, Value v);                             // with the current layer and scope
  void mark_reparametrized(std::string param, Value v);

  // ---- scopes: the path of parameters and nodes, names joined by dots.
  class Scope {
   public:
    Scope(Builder& b, std::string_view name);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Builder& b_;
    std::string before_;
  };
  [[nodiscard]] Scope scope(std::string_view name) { return Scope(*this, name); }
  const std::string& path() const { return path_; }
  std::string path(std::string_view name) const;  // the current path with a name appended
  void set_path(std::string path) { path_ = std::move(path); }
  int layer = -1;                // what mark() records
  Phase phase = Phase::forward;  // of the nodes that come next
  int32_t part = 0;              // micro-batch of the nodes that come next

  // Copies the nodes of a graph, in the current part. Parameters are shared by name, inputs get the
  // suffix, random numbers those of the part. Returns where a value of the graph stands here.
  std::function<Value(Value)> append(const Graph& graph, const std::string& suffix);

  // ---- what was built so far (not yet sorted)
  const Graph& graph() const { return g_; }
  const Type& type(Value v) const { return g_.type(v); }
  const Shape& shape(Value v) const { return g_.type(v).shape; }
  std::vector<Use> uses(Value v) const;  // ascending

  // ---- rewriting
  // All uses of `from` read `to` instead, where `where` agrees (null: always); results, assignments
  // and marks follow.
  void replace_uses(Value from, Value to, const std::function<bool(const Use&)>& where = nullptr);
  // Every operand, result, assignment and mark v becomes to(v), in one walk: for passes that
  // replace many values at once.
  void replace_values(const std::function<Value(Value)>& to);
  // y := f(y): whoever read v until now reads f(v). Without a path of their own, new nodes get the
  // scope of what they are inserted at.
  Value insert_after(Value v, const std::function<Value(Builder&, Value)>& f);
  // One input of one node reads f(what it read) instead.
  Value insert_at(Use use, const std::function<Value(Builder&, Value)>& f);
  void set_input(Use use, Value v);
  // finish() leaves out the nodes for which live is false, their marks, and parameters that no
  // remaining node reads.
  void drop_dead(std::vector<bool> live);
  Param& param_ref(std::string_view name);  // throws GraphError when there is none
  // The parameter has this type from here on. Returns its new leaf; who reads the old one is to be
  // rewired.
  Value retype_param(std::string_view name, DType dtype);

  // Sorts topologically (old nodes keep their order, new ones stand before their first reader),
  // verifies, seals.
  Graph finish(Delta* delta = nullptr);

 private:
  Value standing_at(int32_t node, const std::function<Value(Builder&, Value)>& f, Value v);
  void enter_readers(int32_t node);

  Graph g_;
  std::vector<std::vector<Use>> readers_;  // [node]: who reads any of its results, ascending
  std::string path_;
  std::map<std::string, Value, std::less<>> leaves_;
  int32_t base_nodes_ = 0;
  std::set<Use> rewired_;
  std::vector<bool> live_;  // empty: keep everything
  std::map<std::string, bool> base_trainable_;
};

}  // namespace graft
