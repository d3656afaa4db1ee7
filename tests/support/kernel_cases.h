// Calls of single kernels: one row per op. The same rows compare each kernel with its definition in
// double on every instruction set, at every remainder of its vectors, misaligned and in place, and
// its bits between numbers of threads.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "kernels/attrs.h"
#include "kernels/kernel.h"

namespace graft::testing {

// How far a result in float may be from its definition in double, in units of 2^-23 of a magnitude.
struct Tolerance {
  double result = 0;   // of the result itself: 0.5 is correct rounding
  double largest = 0;  // of the largest finite result
  double terms = 0;    // of the op's result for the absolute values of its operands: sums of terms
  double input = 0;  // of the largest operand: at the same place where shapes agree, else anywhere
  double floor = 0x1p-149;  // absolute: one denormal
  int codes = 0;  // of quantized results: how far from the nearest code, for what lies between two
};
// Kernels that clamp their exponential make no denormals.
inline constexpr double kNoDenormals = 4 * 0x1p-126;

struct KernelCase {
  std::string name;
  Attrs attrs;
  std::vector<Tensor> inputs;  // a default Tensor: an optional operand that is not given
  Tolerance tolerance;
};

struct KernelRow {
  std::function<std::vector<KernelCase>(int64_t n)> of_length;  // n entries along the vectors
  std::function<std::vector<KernelCase>()> special = nullptr;   // special values, stray indices
  int64_t shortest = 0;                                         // the least n that the op takes
  int64_t wide = 40'009;  // an n at which work is split over threads
};
using KernelRows = std::map<std::string, KernelRow, std::less<>>;

KernelRows elementwise_kernel_rows();
KernelRows reduce_kernel_rows();
KernelRows shape_kernel_rows();
KernelRows index_kernel_rows();
KernelRows matmul_kernel_rows();
KernelRows norm_kernel_rows();
KernelRows loss_kernel_rows();
KernelRows head_loss_kernel_rows();
KernelRows attention_kernel_rows();
KernelRows optimizer_kernel_rows();
KernelRows subspace_kernel_rows();

struct KernelFamily {
  std::string name;
  KernelRows rows;
};
const std::vector<KernelFamily>& kernel_families();

// ---- operands
Tensor floats(const Shape& shape, uint64_t seed = 1, double low = -1, double high = 1);
Tensor ints(const Shape& shape, int64_t low, int64_t high, uint64_t seed = 1,
            DType dtype = DType::i64);  // [low, high)
Tensor values(const std::vector<float>& v);
Tensor int_values(const std::vector<int64_t>& v);

// ---- running
// Where operands and results of a call lie.
struct Placement {
  // Elements that each begins behind an aligned address; 0: each ends where its memory ends.
  int64_t misaligned = 0;
  int in_place = -1;  // output 0 is written over this input
};
// Runs the kernel of a backend as the executor would. Fails the current test when it writes outside
// of its outputs and its workspace, or changes an operand.
std::vector<Tensor> run_kernel(Backend backend, std::string_view op, const KernelCase& c,
                               const Placement& placement = {});
// Whether the op allows output 0 over input i in this call.
bool allows_in_place(std::string_view op, const KernelCase& c, size_t i);

// The double reference of a case with the bounds that its tolerance gives.
class Reference {
 public:
  Reference(std::string_view op, const KernelCase& c);
  // Empty when all outputs agree, else the worst place.
  std::string mismatch(const std::vector<Tensor>& got) const;

 private:
  double bound(size_t output, int64_t i) const;
  const KernelCase& c_;
  std::vector<Tensor> want_, terms_;
  std::vector<double> largest_, operand_;  // largest finite magnitudes of results and operands
};

}  // namespace graft::testing
