// Losses over double.
#include "kernels/loss.h"

#include "kernels/ref/families.h"

namespace graft::ref {
namespace {
constexpr KernelEntry kKernels[] = {{"cross_entropy", loss::CrossEntropy<double>},
                                    {"cross_entropy_backward", loss::CrossEntropyBackward<double>},
                                    {"bce", loss::Bce<double>},
                                    {"bce_backward", loss::BceBackward<double>}};
}  // namespace
Family loss_kernels() { return kKernels; }
}  // namespace graft::ref
