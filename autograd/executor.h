// Runs a Program again and again: kernels are found and bound to their memory once, a run only
// calls them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "autograd/param_store.h"
#include "autograd/program.h"
#include "core/tensor.h"

namespace graft {

// One block of memory for the arenas of programs that never run at the same time.
class Arena {
 public:
  explicit Arena(size_t bytes) : bytes_(bytes), memory_(allocate_aligned(bytes)) {}
  size_t bytes() const { return bytes_; }
  std::byte* data() const { return static_cast<std::byte*>(memory_.get()); }

 private:
  size_t bytes_;
  std::shared_ptr<void> memory_;
};

// What one kind of op cost, summed over runs.
struct OpTime {
  std::string op;
  int64_t calls = 0;
  double seconds = 0;
  double flops = 0;
};

class Executor {
 public:
  // Throws when parameters are missing or the arena is too small. The store must outlive the
  // executor; its parameters are read and (by assignments) written in place.
  Executor(std::shared_ptr<const Program> program, ParamStore& store,
           std::shared_ptr<Arena> arena = nullptr);

  // The bytes of an input, to be written before run(). Throws GraphError when there is none of that
  // name.
  Tensor& input(const std::string& name);
  bool has_input(const std::string& name) const { return inputs_.contains(name); }
  void set_input(const std::string& name, const Tensor& value);  // copies; the type must fit
  void run();                                                    // allocates nothing
  // A result of the last run, valid until the next one.
  Tensor output(const std::string& name) const;

  const Program& program() const { return *program_; }
  size_t high_water_bytes() const { return high_water_; }  // of the arena, as seen while running
  // The most memory that the process had (core/process_memory.h), without what it had before there
  // was a model and without what is in memory now of the weights that runs read. Planned for are
  // Program::peak_bytes() without MemoryParts::weights.
  size_t peak_over_weights(size_t before) const;
  // Fills memory with NaN as soon as it is free, so that a plan that frees too early shows.
  void set_poison(bool on) { poison_ = on; }
  void set_profile(bool on);
  std::vector<OpTime> profile() const;

 private:
  struct Bound {  // one step
    const KernelEntry* kernel = nullptr;
    KernelCall call;
    size_t end = 0;  // of the bytes it writes in the arena
    int32_t node = -1;
    void* to = nullptr;  // write
    const void* from = nullptr;
    size_t bytes = 0;
    std::byte* freed = nullptr;
  };
  void bind();
  void rest_in_panels(const Node& pack, const std::string& panels);
  View view(Value v) const;

  std::shared_ptr<const Program> program_;
  ParamStore& store_;
  std::shared_ptr<Arena> arena_;
  std::map<std::string, Tensor> inputs_;
  std::vector<Tensor> persistent_;  // [buffer]: keeps parameters and derived values alive
  std::vector<void*> data_;         // [buffer]
  std::vector<std::vector<View>> views_;
  std::vector<Bound> bound_;
  std::vector<double> node_seconds_;  // [node]: of all its runs
  int64_t profiled_runs_ = 0;
  uint64_t bound_version_ = 0;
  size_t high_water_ = 0;
  bool poison_ = false, profile_ = false;
};

}  // namespace graft
