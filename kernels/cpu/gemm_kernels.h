// What one instruction set gives to the drivers in gemm.cc: tiles, packers, dot products, epilogue.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/gemm.h"
#include "kernels/packed.h"

namespace graft::cpu {

// Columns of a packed panel: two vectors of AVX-512, four of AVX2.
inline constexpr int64_t kPanel = kPanelColumns;
inline constexpr int kMostTileRows = 14;
inline constexpr int64_t kLineBytes = 64;

// Memory that a tile fetches into L2 on the side: `lines` lines per two k, rows of `row_lines`
// lines that lie `jump` bytes apart from end to begin. A trickle: a burst of fetches finds no free
// buffer and is dropped, or keeps the tile's own loads waiting.
struct FetchArgs {
  const std::byte* at = nullptr;
  int lines = 0;
  int64_t row_lines = 0, jump = 0;
};

// C tile = a b (+ base). `a` is packed: element (r, k) at a[k * rows + r] with the tile's own row
// count.
struct TileArgs {
  const float* a;
  const void* b;   // floats, or bf16 for tile_bf16
  int64_t b_step;  // elements from one k to the next
  int64_t k;
  float* c;
  int64_t ldc;
  const float* base;  // laid out as c; null: zero
  const float* next;  // what the next tile begins with: fetched into L1 on the side; or null
  FetchArgs fetch_a, fetch_b;
};

// Writes out[k * width + r] = alpha * element (r, k) for r < rows, and 0 for rows <= r < width.
struct PackArgs {
  const float* src;
  int64_t stride;
  int64_t rows, width, k;
  float alpha;
  float* out;
};

// c[i][j] = alpha * sum over k of a[i][k] b[j][k] (+ base[i][j]).
struct DotArgs {
  const float *a, *b;
  int64_t lda, ldb;
  int64_t m, n, k;
  float* c;
  int64_t ldc;
  const float* base;  // laid out as c; null: zero
  float alpha;
};

// c[0..columns) = a[0..k) times the panels at b (+ base).
struct RowArgs {
  const float* a;
  const void* b;  // floats, or bf16 for row_bf16
  int64_t k, columns;
  float* c;
  const float* base;  // null: zero
};

struct GemmKernels {
  int tile_rows;     // most rows of a tile
  int tile_columns;  // divides kPanel
  // By number of rows; [0] is null.
  void (*tile[kMostTileRows + 1])(const TileArgs&);
  void (*tile_bf16[kMostTileRows + 1])(const TileArgs&);
  void (*row)(const RowArgs&);
  void (*row_bf16)(const RowArgs&);
  void (*pack_along_k)(const PackArgs&);   // (r, k) at src[r * stride + k]
  void (*pack_across_k)(const PackArgs&);  // (r, k) at src[k * stride + r]
  void (*dot)(const DotArgs&);
  void (*widen)(const uint16_t* bf16, int64_t n, float* out);  // n: a multiple of kPanel
  // Bias and activation of c[0..rows)[0..columns); the bias pointer is that of the first column.
  void (*epilogue)(const GemmEpilogue&, float* c, int64_t ldc, int64_t rows, int64_t columns);
};

// Of the best instruction set that this CPU supports (or that a test allows).
const GemmKernels& BestGemmKernels();

}  // namespace graft::cpu
