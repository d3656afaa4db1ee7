// Shape changes: their definition moves elements and nothing else.
#include "kernels/move.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {
constexpr KernelEntry kKernels[] = {{"transpose", move::Transpose}, {"expand", move::Expand},
                                    {"concat", move::Concat},       {"slice", move::Slice},
                                    {"unslice", move::Unslice},     {"pad", move::Pad}};
}  // namespace
Family shape_kernels() { return kKernels; }
}  // namespace graft::ref
