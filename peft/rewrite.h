// The three verbs. A method is a function that applies them; nothing else changes a graph.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/builder.h"
#include "autograd/param_store.h"
#include "core/json.h"
#include "peft/select.h"

namespace graft::peft {

// Writes the start values that no Init describes (norms of frozen weights, singular vectors, ...); runs once, on the filled store.
using Initializer = std::function<void(ParamStore&)>;

class Rewrite {
 public:
  Rewrite(const Graph& base, std::string adapter) : b_(base), base_(base), adapter_(std::move(adapter)) {}

  // ---- freeze: which leaves are differentiated
  void freeze_all();
  void unfreeze(const std::function<bool(const Param&)>& select);

  // ---- add: nodes on a value (all its readers) or on one use
  Value add_after(Value v, const std::function<Value(Builder&, Value)>& f) { return b_.insert_after(v, f); }
  Value add_at(Use use, const std::function<Value(Builder&, Value)>& f) { return b_.insert_at(use, f); }

  // ---- reparametrize: every use of W reads f(W) instead
  Value reparametrize(const std::string& param, const std::function<Value(Builder&, Value)>& f);

  // A parameter of the adapter; trainable unless said otherwise.
  Value param(const std::string& name, Shape shape, const Init& init, bool trainable = true);
  Value buffer(const std::string& name, DType dtype, Shape shape);  // frozen, written by an initializer or a file
  void initialize(Initializer f) { initializers_.push_back(std::move(f)); }

  Builder& builder() { return b_; }
  const std::string& builder_scope(Value v) const { return b_.graph().node(v.node).scope; }
  const Graph& base() const { return base_; }
  std::vector<Module> targets(const Json& config, const std::vector<std::string>& fallback) const {
    return select_targets(base_, config, fallback);
  }
  std::vector<Mark> marks(Role role) const { return b_.graph().marks(role); }  // where they stand now
  std::vector<Initializer> take_initializers() { return std::move(initializers_); }

 private:
  Builder b_;
  Graph base_;
  std::string adapter_;
  std::vector<Initializer> initializers_;
};

}  // namespace graft::peft
