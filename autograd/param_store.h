// The bytes of parameters, by name; shared by every program that runs on them (training,
// evaluation, ...).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph.h"
#include "core/tensor.h"

namespace graft {

class ParamStore {
 public:
  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  const Tensor& get(std::string_view name) const;  // throws GraphError when there is none
  Tensor& get(std::string_view name);
  // Stores the handle: the bytes are shared with the caller.
  void set(std::string name, Tensor tensor);
  void erase(std::string_view name);
  std::vector<std::string> names() const;
  // Changes with every set(): whoever caches something made of the bytes checks it.
  uint64_t version() const { return version_; }

  // Draws every parameter of the graph that is not stored yet and has an initializer; the numbers
  // are a function of seed and name.
  void initialize(const Graph& graph, uint64_t seed);
  // Throws GraphError naming the parameters of the graph that are missing or of another type.
  void check(const Graph& graph) const;
  // Values computed from parameters alone (packed weights), by a name that says how. derived()
  // makes room; the bytes hold what the name says once mark_current() was called and until any
  // parameter is replaced.
  Tensor derived(const std::string& name, const Type& type);
  bool derived_is_current(const std::string& name) const;
  void mark_current(const std::string& name);

 private:
  std::map<std::string, Tensor, std::less<>> tensors_;
  struct Derived {
    Tensor tensor;
    uint64_t version = 0;  // of the store when it was computed; 0: not yet
  };
  std::map<std::string, Derived, std::less<>> derived_;
  uint64_t version_ = 1;
};

// A fresh tensor filled as `init` says.
Tensor draw(const Init& init, const Type& type, uint64_t seed, std::string_view name);

}  // namespace graft
