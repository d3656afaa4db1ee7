// The instruction sets that the kernels were compiled for, and running a test on one of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace graft::testing {

// Every target that the kernels were compiled for, best first, whether this CPU has it or not: what
// tests are instantiated over, so that a target that could not run is reported as skipped.
std::vector<int64_t> compiled_targets();
bool cpu_has(int64_t target);
std::string target_name(int64_t target);

// Runs the scope on one instruction set.
class TargetScope {
 public:
  explicit TargetScope(int64_t target) { choose(target); }
  ~TargetScope() { choose(0); }
  TargetScope(const TargetScope&) = delete;
  TargetScope& operator=(const TargetScope&) = delete;

 private:
  static void choose(int64_t target);
};

// What a dispatched function finds itself running on.
struct RunningTarget {
  int64_t target;
  size_t lanes;  // floats in a vector
};
RunningTarget running_target();

class ThreadScope {
 public:
  explicit ThreadScope(int n);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace graft::testing
