#include <tuple>

#include "hwy/highway.h"
#include "kernels/cpu/gemm_plan.h"
#include "kernels/packed.h"
#include "tests/kernels/gemm_cases.h"

namespace graft::cpu::testing {
namespace {

constexpr MatrixLayout kLayoutsOfA[] = {MatrixLayout::rows, MatrixLayout::cols};
constexpr MatrixLayout kLayoutsOfB[] = {
    MatrixLayout::rows,        MatrixLayout::cols,
    MatrixLayout::panels,      MatrixLayout::panels_transposed,
    MatrixLayout::panels_bf16, MatrixLayout::panels_bf16_transposed};

// Products in double, and the sum of the magnitudes of their terms, which rounding errors scale
// with.
struct Reference {
  Reference(const Matrix& a, const Matrix& b) : n(b.cols()) {
    const int64_t m = a.rows(), k = a.cols();
    value.resize(static_cast<size_t>(m * n));
    magnitude.resize(value.size());
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t j = 0; j < n; ++j) {
          const double term = static_cast<double>(a.at(i, p)) * static_cast<double>(b.at(p, j));
          value[static_cast<size_t>(i * n + j)] += term;
          magnitude[static_cast<size_t>(i * n + j)] += std::abs(term);
        }
      }
    }
  }
  double at(int64_t i, int64_t j) const { return value[static_cast<size_t>(i * n + j)]; }
  // Each of k steps rounds once or twice, at most to the magnitude so far.
  double bound(int64_t i, int64_t j, int64_t k, double extra = 0) const {
    return (static_cast<double>(k) + 2) * 0x1p-23 *
           (magnitude[static_cast<size_t>(i * n + j)] + extra);
  }
  int64_t n;
  std::vector<double> value, magnitude;
};

class GemmOnTarget
    : public ::testing::TestWithParam<std::tuple<int64_t, MatrixLayout, MatrixLayout>> {
 protected:
  void SetUp() override {
    if (!graft::testing::cpu_has(target())) {
      GTEST_SKIP() << "this CPU has no " << graft::testing::target_name(target());
    }
  }
  int64_t target() const { return std::get<0>(GetParam()); }
  MatrixLayout a_layout() const { return std::get<1>(GetParam()); }
  MatrixLayout b_layout() const { return std::get<2>(GetParam()); }
};

// Every remainder of every tile: all leading parts of one product are compared with its reference.
TEST_P(GemmOnTarget, EveryRemainder) {
  const TargetScope scope(target());
  constexpr int64_t kM = 35, kN = 70;
  for (const int64_t k : {1, 2, 7, 8, 64, 127, 513}) {
    Matrix a(kM, k, 1), b(k, kN, 2, b_layout());
    const Reference reference(a, b);
    for (int64_t n = 1; n <= kN; ++n) {
      const GemmOperand b_operand = b.operand(b_layout(), k, n, n % 3);
      for (int64_t m = 1; m <= kM; ++m) {
        // Large k exercises block borders, which no row count changes: fewer rows suffice there.
        if (k == 513 && m % 5 != n % 5) continue;
        const GemmOperand a_operand = a.operand(a_layout(), m, k, m % 3);
        Output c(m, n);
        checked_gemm({.m = m, .n = n, .k = k, .a = a_operand, .b = b_operand}, c);
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            const double error = std::abs(static_cast<double>(c.at(i, j)) - reference.at(i, j));
            ASSERT_LE(error, reference.bound(i, j, k))
                << "m=" << m << " n=" << n << " k=" << k << " at " << i << ", " << j;
          }
        }
      }
    }
  }
}

TEST_P(GemmOnTarget, AddsBaseAndScales) {
  const TargetScope scope(target());
  for (const auto& [m, n, k] : {std::tuple{1, 5, 9}, {13, 9, 300}, {29, 65, 40}, {70, 100, 600}}) {
    Matrix a(m, k, 3), b(k, n, 4, b_layout()), before(m, n, 5);
    const Reference reference(a, b);
    for (const bool in_place : {true, false}) {
      Output c(m, n), base(m, n);
      (in_place ? c : base).fill(before);
      checked_gemm({.m = m,
                    .n = n,
                    .k = k,
                    .a = a.operand(a_layout(), m, k, 1),
                    .b = b.operand(b_layout(), k, n, 2),
                    .base = (in_place ? c : base).data(),
                    .alpha = -0.75f},
                   c);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          const double expected = static_cast<double>(before.at(i, j)) - 0.75 * reference.at(i, j);
          ASSERT_NEAR(c.at(i, j), expected, reference.bound(i, j, k, 1));
        }
      }
    }
  }
}

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu_erf:
      return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
    case Activation::gelu_tanh:
      return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
  }
  return 0;
}

TEST_P(GemmOnTarget, Epilogue) {
  const TargetScope scope(target());
  for (const auto activation : {Activation::none, Activation::relu, Activation::gelu_erf,
                                Activation::gelu_tanh, Activation::silu, Activation::tanh}) {
    for (const auto& [m, n, k] : {std::tuple{5, 3, 40}, {33, 77, 300}, {3, 50, 0}}) {
      Matrix a(m, k, 6), b(k, n, 7, b_layout()), bias(1, n, 8);
      const Reference reference(a, b);
      Output c(m, n);
      checked_gemm({.m = m,
                    .n = n,
                    .k = k,
                    .a = a.operand(a_layout(), m, k),
                    .b = b.operand(b_layout(), k, n),
                    .epilogue = {.bias = bias.operand(MatrixLayout::rows, 1, n).data,
                                 .activation = activation}},
                   c);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          const double x = reference.at(i, j) + static_cast<double>(bias.at(0, j));
          // The steepest activation, GELU, has a slope below 1.13; its own error is below 1e-6.
          ASSERT_NEAR(c.at(i, j), activate(activation, x),
                      1.13 * reference.bound(i, j, k, 1) + 1e-6 * (1 + std::abs(x)));
        }
      }
    }
  }
}

TEST_P(GemmOnTarget, BitsDependOnNeitherThreadsNorRows) {
  const TargetScope scope(target());
  for (const auto& sizes :
       {std::tuple{150, 12, 700}, {131, 200, 530}, {31, 700, 300}, {1100, 40, 600}}) {
    const int64_t m = std::get<0>(sizes), n = std::get<1>(sizes), k = std::get<2>(sizes);
    Matrix a(m, k, 9), b(k, n, 10, b_layout()), before(m, n, 11);
    const GemmOperand b_operand = b.operand(b_layout(), k, n);
    Output one(m, n);
    const auto run = [&](int64_t rows, int threads, Output& c) {
      const ThreadScope threads_scope(threads);
      c.fill(before);
      checked_gemm({.m = rows,
                    .n = n,
                    .k = k,
                    .a = a.operand(a_layout(), rows, k),
                    .b = b_operand,
                    .base = c.data(),
                    .alpha = 0.7f},
                   c);
    };
    run(m, 1, one);
    for (const int threads : {2, 3, 4, 6}) {
      Output c(m, n);
      run(m, threads, c);
      ASSERT_EQ(c.values, one.values) << threads << " threads";
    }
    for (const int64_t rows : {1, 2, 5, 14, 15, 29, 70}) {
      if (rows > m) continue;
      Output c(rows, n);
      run(rows, 1, c);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < n; ++j) ASSERT_EQ(c.at(i, j), one.at(i, j)) << rows << " rows";
      }
    }
  }
}

// What gemm.h promises of products that are not thin: one chain of multiply-adds in the order of k,
// whatever the layouts and the width of stored elements. The fallback without fused multiply-add
// rounds twice per step.
TEST_P(GemmOnTarget, EveryElementIsOneChain) {
  const TargetScope scope(target());
  const bool fused = target() != HWY_SCALAR;
  for (const auto& [m, n, k] :
       {std::tuple{1, 300, 777}, {3, 40, 1100}, {20, 17, 515}, {90, 130, 900}}) {
    Matrix a(m, k, 12), b(k, n, 13, b_layout());
    Output c(m, n);
    checked_gemm({.m = m,
                  .n = n,
                  .k = k,
                  .a = a.operand(a_layout(), m, k),
                  .b = b.operand(b_layout(), k, n),
                  .alpha = 0.3f},
                 c);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        float sum = 0;
        for (int64_t p = 0; p < k; ++p) {
          const float scaled = 0.3f * a.at(i, p);
          if (fused) {
            sum = std::fma(scaled, b.at(p, j), sum);
          } else {
            const float product = scaled * b.at(p, j);
            sum += product;
          }
        }
        ASSERT_EQ(c.at(i, j), sum) << "at " << i << ", " << j << " of " << m << "x" << n;
      }
    }
  }
}

TEST_P(GemmOnTarget, Batches) {
  const TargetScope scope(target());
  if (b_layout() != MatrixLayout::rows && b_layout() != MatrixLayout::cols) return;
  constexpr int64_t kCount = 5, kM = 21, kN = 37, kK = 150;
  Matrix a(kM, kCount * kK, 14), b(kK, kCount * kN, 15);
  // Item i is the columns from i * kK of A and from i * kN of B.
  const GemmOperand a_operand = a.operand(a_layout(), kM, kCount * kK, 1);
  const GemmOperand b_operand = b.operand(b_layout(), kK, kCount * kN, 1);
  const int64_t a_step = a_layout() == MatrixLayout::rows ? kK : kK * a_operand.stride;
  const int64_t b_step = b_layout() == MatrixLayout::rows ? kN : kN * b_operand.stride;
  for (const bool share : {false, true}) {
    for (const int threads : {1, 2, 4}) {
      const ThreadScope threads_scope(threads);
      Output c(kM, kCount * kN);
      GemmArgs args = {.m = kM, .n = kN, .k = kK, .a = a_operand, .b = b_operand};
      args.c = c.data();
      args.ldc = c.ldc;
      GuardedWorkspace workspace(
          GemmWorkspaceBytes(kM, kN, kK, a_layout(), b_layout(), threads, kCount));
      BatchedGemm(args, {kCount, a_step, share ? 0 : b_step, kN}, workspace.data(),
                  workspace.size());
      ASSERT_TRUE(workspace.intact());
      ASSERT_TRUE(c.guards_intact());
      for (int64_t item = 0; item < kCount; ++item) {
        for (int64_t i = 0; i < kM; ++i) {
          for (int64_t j = 0; j < kN; ++j) {
            double sum = 0;
            for (int64_t p = 0; p < kK; ++p) {
              sum += static_cast<double>(a.at(i, item * kK + p)) *
                     static_cast<double>(b.at(p, (share ? 0 : item) * kN + j));
            }
            ASSERT_NEAR(c.at(i, item * kN + j), sum, 1e-4);
          }
        }
      }
    }
  }
}

std::string ParamName(const ::testing::TestParamInfo<GemmOnTarget::ParamType>& info) {
  return graft::testing::target_name(std::get<0>(info.param)) + "_" +
         name_of(std::get<1>(info.param)) + "_" + name_of(std::get<2>(info.param));
}
INSTANTIATE_TEST_SUITE_P(All, GemmOnTarget,
                         ::testing::Combine(::testing::ValuesIn(graft::testing::compiled_targets()),
                                            ::testing::ValuesIn(kLayoutsOfA),
                                            ::testing::ValuesIn(kLayoutsOfB)),
                         ParamName);

TEST(Gemm, EmptyProducts) {
  Output c(4, 6);
  Matrix a(4, 5, 1), b(5, 6, 2), before(4, 6, 3);
  const GemmOperand a_operand = a.operand(MatrixLayout::rows, 4, 5);
  const GemmOperand b_operand = b.operand(MatrixLayout::rows, 5, 6);
  const auto untouched = c.values;
  checked_gemm({.m = 0, .n = 6, .k = 5, .a = a_operand, .b = b_operand}, c);
  checked_gemm({.m = 4, .n = 0, .k = 5, .a = a_operand, .b = b_operand}, c);
  EXPECT_EQ(c.values, untouched);
  checked_gemm({.m = 4, .n = 6, .k = 0, .a = a_operand, .b = b_operand}, c);
  for (int64_t j = 0; j < 6; ++j) EXPECT_EQ(c.at(3, j), 0.0f);
  c.fill(before);
  checked_gemm({.m = 4, .n = 6, .k = 0, .a = a_operand, .b = b_operand, .base = c.data()}, c);
  for (int64_t j = 0; j < 6; ++j) EXPECT_EQ(c.at(2, j), before.at(2, j));
  Output other(4, 6);
  checked_gemm({.m = 4, .n = 6, .k = 0, .a = a_operand, .b = b_operand, .base = c.data()}, other);
  for (int64_t j = 0; j < 6; ++j) EXPECT_EQ(other.at(2, j), before.at(2, j));
}

TEST(Gemm, WorkspaceForFewerThreadsIsEnough) {
  constexpr int64_t kM = 90, kN = 100, kK = 500;
  Matrix a(kM, kK, 1), b(kK, kN, 2);
  GemmArgs args = {.m = kM,
                   .n = kN,
                   .k = kK,
                   .a = a.operand(MatrixLayout::rows, kM, kK),
                   .b = b.operand(MatrixLayout::cols, kK, kN)};
  Output one(kM, kN), many(kM, kN);
  checked_gemm(args, one);
  const ThreadScope threads(8);
  args.c = many.data();
  args.ldc = many.ldc;
  GuardedWorkspace small(GemmWorkspaceBytes(kM, kN, kK, MatrixLayout::rows, MatrixLayout::cols, 1));
  Gemm(args, small.data(), small.size());
  EXPECT_TRUE(small.intact());
  EXPECT_EQ(one.values, many.values);
}

TEST(Gemm, PackedWeightsUnpack) {
  for (const auto& [k, n] : {std::tuple{1, 1}, {7, 31}, {40, 32}, {33, 100}}) {
    Matrix w(k, n, 5);
    const GemmOperand packed = w.operand(MatrixLayout::panels, k, n);
    for (const bool transposed : {false, true}) {
      Output out(transposed ? n : k, transposed ? k : n);
      UnpackWeight(packed.data, k, n, transposed, out.data(), out.ldc);
      ASSERT_TRUE(out.guards_intact());
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          ASSERT_EQ(transposed ? out.at(j, i) : out.at(i, j), w.at(i, j));
        }
      }
    }
  }
}

TEST(Gemm, WeightsOfSixteenBitsArePackedAlike) {
  for (const auto& [k, n] : {std::tuple{1, 1}, {7, 31}, {40, 32}, {33, 100}}) {
    Matrix w(k, n, 5, MatrixLayout::panels_bf16), same = w;
    const GemmOperand wide = w.operand(MatrixLayout::panels, k, n);
    const GemmOperand narrow = same.operand(MatrixLayout::panels_bf16, k, n);
    for (int64_t i = 0; i < PackedElements(n, k); ++i) {
      ASSERT_EQ(bf16_to_float(narrow.bf16[i]), wide.data[i]) << k << " x " << n << " at " << i;
    }
  }
}

// The plan is a function of sizes; a workspace may not depend on the instruction set of the day.
TEST(Gemm, PlansAreTheSameForAllTargets) {
  std::vector<std::string> plans;
  for (const int64_t target : graft::testing::compiled_targets()) {
    if (!graft::testing::cpu_has(target)) continue;
    const TargetScope scope(target);
    plans.push_back(Describe(PlanGemm({.m = 300, .n = 200, .k = 1000}, 2)));
  }
  for (const auto& plan : plans) EXPECT_EQ(plan, plans.front());
}

}  // namespace
}  // namespace graft::cpu::testing
