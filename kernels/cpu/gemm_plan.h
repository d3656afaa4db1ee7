// How a matrix product is done: path, block sizes, split over threads. Decided from sizes and
// layouts alone by one table of rules, so that a planner can know the workspace and a benchmark can
// print why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/cpu/gemm.h"

namespace graft::cpu {

enum class GemmPath : uint8_t {
  none,      // no sums: only C and the epilogue
  dot,       // thin, A contiguous along k: dot products
  swapped,   // thin, A contiguous along m: the transposed product, into scratch memory
  row,       // a single row, B packed before: read in one stream
  in_place,  // A packed, B (rows) read where it lies
  packed,    // A packed; B packed block by block, or packed before
};

struct GemmProblem {
  int64_t m = 0, n = 0, k = 0;
  MatrixLayout a = MatrixLayout::rows, b = MatrixLayout::rows;
  int64_t batch = 1;
};

struct GemmPlan {
  GemmPath path = GemmPath::none;
  const char* rule = "";   // the line of the table that decided
  int64_t kc = 0, nc = 0;  // a block of B is kc x nc; nc is a multiple of kPanel
  int64_t mc = 0;          // rows that go through all blocks of B together
  bool k_outer =
      true;  // blocks along k outermost: A is packed per block. Otherwise A is packed whole
  // Packed A is read for more than one block of B; otherwise one row tile's room serves all.
  bool keep_a = true;
  bool prefetch = false;  // packed B: fetch its next block into L2 during this one
  // The grid of cells that a product is cut into, each done by one thread.
  int row_cells = 1, column_cells = 1;
  int threads = 1;
  // Floats of scratch memory per thread, and floats that all threads share.
  size_t a_floats = 0, b_floats = 0, thread_floats = 0, shared_floats = 0;

  size_t workspace_bytes() const;  // with room to align
};

GemmPlan PlanGemm(const GemmProblem& problem, int threads);
std::string Describe(const GemmPlan& plan);

}  // namespace graft::cpu
