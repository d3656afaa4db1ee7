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

// Writes the start values that no Init describes (norms of frozen weights, singular vectors, ...);
// runs once, on the filled store.
using Initializer = std::function<void(ParamStore&)>;

// Adds nodes to the update phase of a training step, after the optimizer's: `gradients` and
// `updated` (the new values) of the trainable parameters by name.
using AfterStep = std::function<void(Builder& b, const std::map<std::string, Value>& gradients,
                                     const std::map<std::string, Value>& updated)>;

// A start that needs the task: the diagonal Fisher information of base parameters on training rows.
struct FisherStart {
  std::vector<std::string> params;  // empty: the method does not ask for it
  int64_t samples = 0;
  bool expected = false;  // over the model's own labels; else those of the rows
  std::function<void(const std::map<std::string, Tensor>& fisher, ParamStore&)> start;
};

struct ApplyOptions {
  std::string adapter = "default";
  std::string model = {};  // what errors call it: "llama"; empty: not at all
  // Training draws random numbers (dropout, stochastic gates): nodes that read the input "rng",
  // i64[2] = seed and step. Otherwise nothing is drawn.
  bool training = false;
};

class Rewrite {
 public:
  Rewrite(const Graph& base, ApplyOptions options)
      : b_(base), base_(base), options_(std::move(options)) {}

  // ---- freeze: which leaves are differentiated
  void freeze_all();
  void unfreeze(const std::function<bool(const Param&)>& select);

  // ---- add: nodes on a value (all its readers) or on one use
  Value add_after(Value v, const std::function<Value(Builder&, Value)>& f) {
    return b_.insert_after(v, f);
  }
  Value add_at(Use use, const std::function<Value(Builder&, Value)>& f) {
    return b_.insert_at(use, f);
  }

  // y + f(x) in place of y on every product y = x W^T + b of a module.
  void add_beside(const Module& module, const std::function<Value(Builder&, Value x)>& f);

  // ---- reparametrize: every use of W reads f(W) instead
  Value current(const std::string& param) const;  // what those uses read now
  Value reparametrize(const std::string& param, const std::function<Value(Builder&, Value)>& f);
  // The same for the weight of one module as its readers see it, [out, in], however the file holds
  // it. Where the weight is tied, the other modules keep theirs, as Hugging Face PEFT has it;
  // merging changes the one parameter, and so them all.
  Value current(const Module& module);
  void reparametrize(const Module& module, const std::function<Value(Builder&, Value)>& f);
  // The module reads a trained copy of a tied weight, NAME.weight; nothing for a weight of its own.
  void untie(const Module& module);

  // A parameter of the adapter; trainable unless said otherwise.
  Value param(const std::string& name, Shape shape, const Init& init, bool trainable = true);
  Value buffer(const std::string& name, DType dtype,
               Shape shape);  // frozen, written by an initializer or a file
  // `replaces`: a parameter of the base that it changes.
  void initialize(Initializer f, const std::string& replaces = "") {
    initializers_.push_back(std::move(f));
    if (!replaces.empty()) replaced_.push_back(replaces);
  }
  void start_from_fisher(FisherStart f) { fisher_ = std::move(f); }
  // Added to the loss in training: a scalar, as the named output "penalty/NAME" of the graph.
  void penalty(const std::string& name, Value v) {
    if (training()) b_.output("penalty/" + name, v);
  }
  // What adapter files hold under that name in place of the parameters that generate it: the named
  // output "eject/NAME".
  void eject(const std::string& name, Value v) { b_.output("eject/" + name, v); }
  void after_step(AfterStep f) { after_step_.push_back(std::move(f)); }

  bool training() const { return options_.training; }
  Value rng() { return options_.training ? b_.input("rng", DType::i64, {2}) : Value{}; }
  // x with dropout in training; `site` tells its random numbers from those of other sites.
  Value dropout(Value x, double p, std::string_view site);

  Builder& builder() { return b_; }
  const std::string& builder_scope(Value v) const { return b_.graph().node(v.node).scope; }
  const Graph& base() const { return base_; }
  std::vector<Module> targets(const Json& config, std::initializer_list<Role> fallback) const {
    return select_targets(base_, config, fallback);
  }
  std::vector<Mark> marks(Role role) const {
    return b_.graph().marks(role);
  }  // where they stand now
  std::vector<Initializer> take_initializers() { return std::move(initializers_); }
  std::vector<std::string> take_replaced() { return std::move(replaced_); }
  FisherStart take_fisher() { return std::move(fisher_); }
  std::vector<AfterStep> take_after_step() { return std::move(after_step_); }

 private:
  Builder b_;
  Graph base_;
  ApplyOptions options_;
  std::vector<Initializer> initializers_;
  std::vector<std::string> replaced_;
  FisherStart fisher_;
  std::vector<AfterStep> after_step_;
};

}  // namespace graft::peft
