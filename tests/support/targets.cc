#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/support/targets.cc"
#include "tests/support/targets.h"

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"

HWY_BEFORE_NAMESPACE();
namespace graft::testing::HWY_NAMESPACE {

RunningTarget Running() {
  const hwy::HWY_NAMESPACE::ScalableTag<float> d;
  return {HWY_TARGET, hwy::HWY_NAMESPACE::Lanes(d)};
}

}  // namespace graft::testing::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::testing {
HWY_EXPORT(Running);

std::vector<int64_t> compiled_targets() {
  std::vector<int64_t> targets;  // a lower bit is a better target
  for (int64_t bits = HWY_TARGETS; bits != 0; bits &= bits - 1) targets.push_back(bits & -bits);
  return targets;
}

#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0  // one target: no table of them and nothing to choose
bool cpu_has(int64_t) { return true; }
void TargetScope::choose(int64_t) {}
#else
bool cpu_has(int64_t target) { return (hwy::SupportedTargets() & target) != 0; }

void TargetScope::choose(int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  // Kernels take their function from the table of this choice at every call and keep none.
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}
#endif

std::string target_name(int64_t target) { return hwy::TargetName(target); }

RunningTarget running_target() { return GRAFT_DISPATCH(Running)(); }

ThreadScope::ThreadScope(int n) : before_(num_threads()) { set_num_threads(n); }
ThreadScope::~ThreadScope() { set_num_threads(before_); }

}  // namespace graft::testing
#endif  // HWY_ONCE
