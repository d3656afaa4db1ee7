// Matrix products in fp32: C = alpha A B (+ base), then bias and activation while the result is
// hot.
//
// Numbers. Except in thin products (see kThinColumns), every element of C is one chain of fused
// multiply-adds in the order of k, started from zero or from base. Its bits depend on its row of A,
// its column of B and the instruction set, and on nothing else: not on m or n, the number of
// threads, block sizes, or whether B was packed before. Thin products sum in lanes instead; their
// bits do not depend on m or the number of threads either.
#pragma once

#include <cstddef>
#include <cstdint>

namespace graft::cpu {

// Columns of C up to which a product is "thin": vectors then run along k, not along n.
inline constexpr int64_t kThinColumns = 16;

// How an operand lies in memory.
enum class MatrixLayout : uint8_t {
  rows,               // element (i, j) at data[i * stride + j]
  cols,               // element (i, j) at data[j * stride + i]: the transpose of a stored matrix
  panels,             // B only: written by PackWeight
  panels_transposed,  // B only: the transpose of what PackWeight wrote
  // The same with 16-bit elements. They are widened, which is exact, on their way into registers:
  // the product has the bits of one with the widened matrix.
  panels_bf16,
  panels_bf16_transposed,
};

struct GemmOperand {
  const float* data = nullptr;
  int64_t stride = 0;  // leading dimension; unused by panels
  MatrixLayout layout = MatrixLayout::rows;
  const uint16_t* bf16 = nullptr;  // the elements of panels_bf16, in place of data

  static GemmOperand rows(const float* p, int64_t stride) {
    return {p, stride, MatrixLayout::rows};
  }
  static GemmOperand cols(const float* p, int64_t stride) {
    return {p, stride, MatrixLayout::cols};
  }
  static GemmOperand panels(const float* p) { return {p, 0, MatrixLayout::panels}; }
  static GemmOperand panels_transposed(const float* p) {
    return {p, 0, MatrixLayout::panels_transposed};
  }
  static GemmOperand panels(const uint16_t* p) {
    return {nullptr, 0, MatrixLayout::panels_bf16, p};
  }
  static GemmOperand panels_transposed(const uint16_t* p) {
    return {nullptr, 0, MatrixLayout::panels_bf16_transposed, p};
  }
};

enum class Activation : uint8_t { none, relu, gelu_erf, gelu_tanh, silu, tanh };

struct GemmEpilogue {
  const float* bias = nullptr;  // [n], added to every row
  Activation activation = Activation::none;
};

// C [m, n] = alpha A [m, k] B [k, n] (+ base). C may overlap neither A nor B.
struct GemmArgs {
  int64_t m = 0, n = 0, k = 0;
  GemmOperand a, b;
  float* c = nullptr;
  int64_t ldc = 0;
  const float* base = nullptr;  // laid out as C, and may be C itself; null: zero
  float alpha = 1;
  GemmEpilogue epilogue;
};

// `count` products that differ by offsets, in elements, from one to the next. A stride of 0 repeats
// an operand.
struct GemmBatch {
  int64_t count = 1;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;
};

// Bytes that Gemm wants for this size on up to `threads` threads; for any alignment of the
// workspace. A smaller workspace is served by fewer threads, down to what one thread wants.
size_t GemmWorkspaceBytes(int64_t m, int64_t n, int64_t k, MatrixLayout a, MatrixLayout b,
                          int threads, int64_t batch = 1);

void Gemm(const GemmArgs& args, void* workspace, size_t workspace_bytes);
void BatchedGemm(const GemmArgs& args, const GemmBatch& batch, void* workspace,
                 size_t workspace_bytes);

// The packed form of an operand B [k, n]: for each 32 columns (the last padded with zeros) a panel,
// row after row. It is the same for all instruction sets. For a frozen weight W [out, in], pack the
// operand cols(W, in), k = in, n = out: y = x W^T reads it as panels, dx = dy W as
// panels_transposed.
size_t PackedBytes(int64_t k, int64_t n);
void PackWeight(const GemmOperand& b, int64_t k, int64_t n, float* packed);
// The same for a weight W [out, in] of bf16.
void PackWeight(const uint16_t* w, int64_t out, int64_t in, uint16_t* packed);
// The inverse: writes element (i, j) to out[i * stride + j], or out[j * stride + i] if
// `transposed`.
void UnpackWeight(const float* packed, int64_t k, int64_t n, bool transposed, float* out,
                  int64_t stride);

}  // namespace graft::cpu
