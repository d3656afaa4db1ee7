// Losses over float.
#include "kernels/loss.h"

#include "kernels/cpu/families.h"

namespace graft::cpu {
namespace {
constexpr KernelEntry kKernels[] = {{"cross_entropy", loss::CrossEntropy<float>},
                                    {"cross_entropy_backward", loss::CrossEntropyBackward<float>},
                                    {"bce", loss::Bce<float>},
                                    {"bce_backward", loss::BceBackward<float>}};
}  // namespace
Family loss_kernels() { return kKernels; }
}  // namespace graft::cpu
