// Every kernel on every instruction set that the library was compiled for, from the rows of
// tests/support/kernel_cases.h. The name of a test says which one ran; one that this CPU lacks is
// reported as skipped.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <tuple>

#include "core/parallel.h"
#include "kernels/cpu/families.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/targets.h"

namespace graft::testing {
namespace {

class KernelsOn : public ::testing::TestWithParam<std::tuple<int64_t, size_t>> {
 protected:
  void SetUp() override {
    if (!cpu_has(target())) GTEST_SKIP() << "this CPU has no " << target_name(target());
    scope_ = std::make_unique<TargetScope>(target());
    ASSERT_EQ(running_target().target, target());
  }
  int64_t target() const { return std::get<0>(GetParam()); }
  const KernelRows& rows() const { return kernel_families()[std::get<1>(GetParam())].rows; }

 private:
  std::unique_ptr<TargetScope> scope_;
};

void expect_definition(const std::string& op, const KernelCase& c, const Placement& where,
                       const Reference& reference) {
  EXPECT_EQ(reference.mismatch(run_kernel(Backend::cpu, op, c, where)), "")
      << op << ", " << c.name << ", misaligned by " << where.misaligned << ", in place of "
      << where.in_place;
}

// Aligned, misaligned, and over each operand that the op allows.
void expect_definition_everywhere(const std::string& op, const KernelCase& c, int64_t misaligned) {
  const Reference reference(op, c);
  expect_definition(op, c, {}, reference);
  expect_definition(op, c, {.misaligned = misaligned}, reference);
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    if (!allows_in_place(op, c, i)) continue;
    expect_definition(op, c, {.misaligned = misaligned, .in_place = static_cast<int>(i)},
                      reference);
  }
}

TEST_P(KernelsOn, EveryRemainder) {
  const auto most = static_cast<int64_t>(2 * running_target().lanes + 1);
  for (const auto& [op, row] : rows()) {
    for (int64_t n = row.shortest; n <= most; ++n) {
      SCOPED_TRACE("n = " + std::to_string(n));
      for (const KernelCase& c : row.of_length(n)) expect_definition_everywhere(op, c, 1 + n % 3);
    }
  }
}

TEST_P(KernelsOn, SpecialCases) {
  for (const auto& [op, row] : rows()) {
    if (row.special == nullptr) continue;
    for (const KernelCase& c : row.special()) expect_definition_everywhere(op, c, 1);
  }
}

TEST_P(KernelsOn, ThreadsDoNotChangeBits) {
  for (const auto& [op, row] : rows()) {
    std::vector<KernelCase> cases = row.of_length(row.wide);
    if (row.special != nullptr) {
      for (KernelCase& c : row.special()) cases.push_back(std::move(c));
    }
    for (const KernelCase& c : cases) {
      std::vector<Tensor> alone;
      for (const int threads : {1, 2, 3}) {
        const ThreadScope scope(threads);
        const std::vector<Tensor> got = run_kernel(Backend::cpu, op, c);
        if (threads == 1) alone = got;
        for (size_t i = 0; i < got.size(); ++i) {
          const size_t bytes = got[i].size_bytes();
          EXPECT_TRUE(bytes == 0 || std::memcmp(got[i].bytes(), alone[i].bytes(), bytes) == 0)
              << op << ", " << c.name << ", output " << i << " with " << threads << " threads";
        }
      }
    }
  }
}

std::vector<size_t> family_numbers() {
  std::vector<size_t> all(kernel_families().size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}

std::string param_name(const ::testing::TestParamInfo<KernelsOn::ParamType>& info) {
  return target_name(std::get<0>(info.param)) + "_" +
         kernel_families()[std::get<1>(info.param)].name;
}
INSTANTIATE_TEST_SUITE_P(Target, KernelsOn,
                         ::testing::Combine(::testing::ValuesIn(compiled_targets()),
                                            ::testing::ValuesIn(family_numbers())),
                         param_name);

TEST(Kernels, EachHasARow) {
  std::set<std::string, std::less<>> with_row, with_kernel;
  for (const KernelFamily& f : kernel_families()) {
    for (const auto& [op, row] : f.rows) with_row.insert(op);
  }
  for (const auto& family : cpu::families()) {
    for (const KernelEntry& e : family) with_kernel.emplace(e.op);
  }
  EXPECT_EQ(with_row, with_kernel);
}

// The sum kernel keeps one running sum per lane of two vectors. Where the first holds 2^25, ones
// that are added to it are lost and the other sums are exact: the result counts the lanes of the
// code that ran.
TEST(Kernels, RunOnTheTargetThatIsChosen) {
  constexpr int64_t kCount = 1024;
  KernelCase c{"", Attrs::of(ReduceAttrs{{0}, false}), {floats({kCount}, 1, 1, 1)}, {}};
  c.inputs[0].data<float>()[0] = 0x1p25f;
  int ran = 0;
  for (const int64_t target : compiled_targets()) {
    if (!cpu_has(target)) continue;
    const TargetScope scope(target);
    EXPECT_EQ(target_name(running_target().target), target_name(target));
    const auto sums = 2 * static_cast<int64_t>(running_target().lanes);
    const int64_t lost = kCount / sums;
    const auto want = static_cast<float>((int64_t{1} << 25) + kCount - lost);
    EXPECT_EQ(run_kernel(Backend::cpu, "sum", c)[0].data<float>()[0], want) << target_name(target);
    std::printf("ran on %s, %zu lanes\n", target_name(target).c_str(), running_target().lanes);
    ++ran;
  }
  EXPECT_GT(ran, 0);
}

}  // namespace
}  // namespace graft::testing
