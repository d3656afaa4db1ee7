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

// A parameter may be stored in another type than it has (16-bit floats of a mapped file): it is
// converted when someone asks for its values, not before. It may also be there in panels alone
// (kernels/packed.h), the only form in which the programs read it: who asks for it gets its rows
// from these.
class ParamStore {
 public:
  bool contains(std::string_view name) const { return params_.find(name) != params_.end(); }
  // In the parameter's type, to be read and written; what had to be converted or unpacked for it
  // stays. Throws GraphError when there is none.
  Tensor& get(std::string_view name);
  // The same, to be read; what had to be converted or unpacked belongs to the caller alone.
  Tensor get(std::string_view name) const;
  Tensor stored(std::string_view name) const;  // in the type in which it lies here
  DType stored_type(std::string_view name) const;
  // In the type that a graph gives it: its own, or the narrower one in which it was stored
  // (passes/pack_weights.h). If it was widened since, it is narrowed again, for the caller alone;
  // throws GraphError where that would change a value.
  Tensor in_type(std::string_view name, DType dtype);
  // Stores the handle: the bytes are shared with the caller. The parameter is of the tensor's type
  // or of `dtype`.
  void set(std::string name, const Tensor& tensor);
  void set(std::string name, const Tensor& tensor, DType dtype);
  // Takes over a parameter of another store as it lies there.
  void share(const std::string& name, const ParamStore& from);
  // Gives a parameter bytes that nobody else sees, before something writes to them.
  void own(const std::string& name);
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

  // No run reads a parameter's own bytes, at least for now: the memory behind a mapped file is
  // given back.
  void rest(const std::string& name);
  // The same for a parameter that a derived value, which is current, holds in panels: of W [out,
  // in] or, transposed, of the parameter's transpose. Its own bytes go.
  void rest_in_panels(const std::string& name, const std::string& derived, bool transposed);

 private:
  struct Stored {
    Tensor tensor;            // empty where the panels are all there is
    DType dtype;              // the parameter's
    Type type;                // as it lies here
    std::string panels = {};  // the derived value that holds the same numbers; empty: none
    bool transposed = false;
  };
  const Stored& find(std::string_view name) const;
  Tensor rows(const Stored& p) const;
  std::map<std::string, Stored, std::less<>> params_;
  struct Derived {
    Tensor tensor;
    uint64_t version = 0;    // of the store when it was computed; 0: not yet
    std::string holds = {};  // a parameter that may be there in this form alone
  };
  std::map<std::string, Derived, std::less<>> derived_;
  uint64_t version_ = 1;
};

// A fresh tensor filled as `init` says.
Tensor draw(const Init& init, const Type& type, uint64_t seed, std::string_view name);

}  // namespace graft
