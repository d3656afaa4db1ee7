// Matrices with guards around them, for the tests of the matrix product.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/parallel.h"
#include "core/random.h"
#include "kernels/cpu/gemm.h"
#include "kernels/packed.h"
#include "tests/support/targets.h"

namespace graft::cpu::testing {

using graft::testing::TargetScope;
using graft::testing::ThreadScope;

inline std::vector<float> random_floats(size_t n, uint64_t seed) {
  const RandomStream random(seed, 0);
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = 2 * random.uniform(i) - 1;
  return v;
}

// A logical matrix [rows, cols] of which any leading part can be handed out in any layout.
class Matrix {
 public:
  // Of numbers that the layout can hold.
  Matrix(int64_t rows, int64_t cols, uint64_t seed, MatrixLayout layout = MatrixLayout::rows)
      : rows_(rows), cols_(cols), values_(random_floats(static_cast<size_t>(rows * cols), seed)) {
    if (!is_bf16(layout)) return;
    for (float& x : values_) x = bf16_to_float(float_to_bf16(x));
  }

  static bool is_bf16(MatrixLayout layout) {
    return layout == MatrixLayout::panels_bf16 || layout == MatrixLayout::panels_bf16_transposed;
  }

  float at(int64_t i, int64_t j) const { return values_[static_cast<size_t>(i * cols_ + j)]; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

  // The leading [rows, cols] part; `pad` more elements lie between its lines.
  GemmOperand operand(MatrixLayout layout, int64_t rows, int64_t cols, int64_t pad = 0) {
    if (is_bf16(layout)) return bf16_panels(layout, rows, cols);
    const bool flat = layout == MatrixLayout::rows || layout == MatrixLayout::panels;
    const int64_t lines = flat ? rows : cols, length = flat ? cols : rows;
    auto stored = std::vector<float>(static_cast<size_t>(lines * (length + pad)), NAN);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        stored[static_cast<size_t>(flat ? i * (length + pad) + j : j * (length + pad) + i)] =
            at(i, j);
      }
    }
    GemmOperand source = {stored.data(), length + pad,
                          flat ? MatrixLayout::rows : MatrixLayout::cols};
    if (layout == MatrixLayout::rows || layout == MatrixLayout::cols) {
      storage_ = std::move(stored);
      source.data = storage_.data();
      return source;
    }
    // What was packed is this matrix, or its transpose.
    const bool transposed = layout == MatrixLayout::panels_transposed;
    if (transposed) source.layout = MatrixLayout::rows;
    const int64_t k = transposed ? cols : rows, n = transposed ? rows : cols;
    storage_.assign(PackedBytes(k, n) / sizeof(float), NAN);
    PackWeight(source, k, n, storage_.data());
    return transposed ? GemmOperand::panels_transposed(storage_.data())
                      : GemmOperand::panels(storage_.data());
  }

 private:
  // Packed from the weight [out, in] of which this is the transpose, or from this as one.
  GemmOperand bf16_panels(MatrixLayout layout, int64_t rows, int64_t cols) {
    const bool transposed = layout == MatrixLayout::panels_bf16_transposed;
    const int64_t out = transposed ? rows : cols, in = transposed ? cols : rows;
    std::vector<uint16_t> weight;
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i)
        weight.push_back(float_to_bf16(transposed ? at(o, i) : at(i, o)));
    }
    constexpr uint16_t kNan = 0x7fc0;
    bf16_.assign(static_cast<size_t>(PackedElements(out, in)), kNan);
    PackWeight(weight.data(), out, in, bf16_.data());
    return transposed ? GemmOperand::panels_transposed(bf16_.data())
                      : GemmOperand::panels(bf16_.data());
  }

  int64_t rows_, cols_;
  std::vector<float> values_;
  std::vector<float> storage_;
  std::vector<uint16_t> bf16_;
};

inline constexpr float kGuard = 12345.5f;

// C with guards between and around its rows.
struct Output {
  Output(int64_t rows, int64_t cols, int64_t pad = 3)
      : m(rows),
        n(cols),
        ldc(cols + pad),
        values(static_cast<size_t>(2 * kMargin + rows * ldc), kGuard) {}
  static constexpr int64_t kMargin = 64;
  float* data() { return values.data() + kMargin; }
  float at(int64_t i, int64_t j) const {
    return values[static_cast<size_t>(kMargin + i * ldc + j)];
  }
  void fill(const Matrix& source) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) data()[i * ldc + j] = source.at(i, j);
    }
  }
  bool guards_intact() const {
    int64_t touched = 0;
    for (int64_t at = 0; at < static_cast<int64_t>(values.size()); ++at) {
      const int64_t r = at - kMargin;
      const bool inside = r >= 0 && r < m * ldc && r % ldc < n;
      touched += !inside && values[static_cast<size_t>(at)] != kGuard;
    }
    return touched == 0;
  }
  int64_t m, n, ldc;
  std::vector<float> values;
};

// Exactly as many bytes as asked for, at an odd address, with guards after them.
class GuardedWorkspace {
 public:
  explicit GuardedWorkspace(size_t bytes)
      : size_(bytes), bytes_(bytes + kGuardBytes + 4, std::byte{0x5A}) {}
  void* data() { return bytes_.data() + 4; }
  size_t size() const { return size_; }
  bool intact() const {
    return std::all_of(bytes_.begin() + static_cast<std::ptrdiff_t>(size_ + 4), bytes_.end(),
                       [](std::byte b) { return b == std::byte{0x5A}; });
  }

 private:
  static constexpr size_t kGuardBytes = 256;
  size_t size_;
  std::vector<std::byte> bytes_;
};

// Runs the product with the workspace it asks for and checks that nothing else was written.
inline void checked_gemm(GemmArgs args, Output& c, const GemmBatch& batch = {}) {
  args.c = c.data();
  args.ldc = c.ldc;
  GuardedWorkspace workspace(GemmWorkspaceBytes(args.m, args.n, args.k, args.a.layout,
                                                args.b.layout, num_threads(), batch.count));
  BatchedGemm(args, batch, workspace.data(), workspace.size());
  ASSERT_TRUE(workspace.intact()) << "written behind the workspace";
  ASSERT_TRUE(c.guards_intact()) << "written outside of C";
}

inline std::string name_of(MatrixLayout layout) {
  switch (layout) {
    case MatrixLayout::rows:
      return "rows";
    case MatrixLayout::cols:
      return "cols";
    case MatrixLayout::panels:
      return "panels";
    case MatrixLayout::panels_transposed:
      return "panels_transposed";
    case MatrixLayout::panels_bf16:
      return "panels_bf16";
    case MatrixLayout::panels_bf16_transposed:
      return "panels_bf16_transposed";
  }
  return "?";
}

}  // namespace graft::cpu::testing
