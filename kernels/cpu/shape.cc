// Shape changes on the CPU: long runs are copied, permutations walk the output row by row.
#include "core/parallel.h"
#include "kernels/cpu/families.h"
#include "kernels/move.h"

namespace graft::cpu {
namespace {

// The output's innermost axis is read with one stride; rows are split over threads.
void Transpose(const KernelCall& c) {
  move::ByWidth(c.out().dtype, [&](auto width) {
    using T = decltype(width);
    const auto& perm = c.attr<PermAttrs>().perm;
    const Shape& s = c.out().shape;
    const int rank = s.rank();
    if (s.elements() == 0) return;
    const auto from = move::Strides(c.in(0).shape);
    const int64_t inner = s[-1], stride = from[static_cast<size_t>(perm.back())];
    parallel_for(s.elements() / inner, std::max<int64_t>(1, 16384 / inner),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) {
                     int64_t rest = row, at = 0;
                     for (int k = rank - 2; k >= 0; --k) {
                       at += rest % s[k] * from[static_cast<size_t>(perm[static_cast<size_t>(k)])];
                       rest /= s[k];
                     }
                     const T* x = move::Data<T>(c.in(0)) + at;
                     T* y = move::MutableData<T>(c.out()) + row * inner;
                     if (stride == 1) {
                       std::copy_n(x, inner, y);
                     } else {
                       for (int64_t i = 0; i < inner; ++i) y[i] = x[i * stride];
                     }
                   }
                 });
  });
}

// Trailing axes that x has whole are one run; the rest repeats it.
void Expand(const KernelCall& c) {
  const Shape &from = c.in(0).shape, &to = c.out().shape;
  int inner = 0;
  int64_t run = 1;
  while (inner < from.rank() && from[-1 - inner] == to[-1 - inner]) run *= to[-1 - inner++];
  if (run < 8 || to.elements() == 0) return move::Expand(c);
  const BroadcastIndex ix(from, to);
  const size_t width = size_of(c.out().dtype);
  parallel_for(
      to.elements() / run, std::max<int64_t>(1, 16384 / run), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          std::memcpy(move::MutableData<char>(c.out()) + static_cast<size_t>(i * run) * width,
                      move::Data<char>(c.in(0)) + static_cast<size_t>(ix(i * run)) * width,
                      static_cast<size_t>(run) * width);
        }
      });
}

constexpr KernelEntry kKernels[] = {{"transpose", Transpose},   {"expand", Expand},
                                    {"concat", move::Concat},   {"slice", move::Slice},
                                    {"unslice", move::Unslice}, {"pad", move::Pad}};

}  // namespace

Family shape_kernels() { return kKernels; }

}  // namespace graft::cpu
