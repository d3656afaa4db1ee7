// Optimizer updates over float.
#include "kernels/cpu/families.h"
#include "kernels/update.h"

namespace graft::cpu {
namespace {
constexpr KernelEntry kKernels[] = {
    {"sgd_update", update::Sgd<float>},
    {"amsgrad_update", update::Adam<float, true>},
    {"lion_update", update::Lion<float>},
    {"rmsprop_update", update::Rmsprop<float>},
    {"adagrad_update", update::Adagrad<float>},
    {"adafactor_update", update::Adafactor<float>},
    {"adalora_importance", update::AdaloraImportance<float>},
    {"adalora_allocate", update::AdaloraAllocate<float>, update::AdaloraWorkspace<float>},
    {"lr_schedule", update::Schedule<float>},
    {"increment", update::Increment},
    {"clip_coefficient", update::ClipCoefficient<float>}};
}  // namespace
Family optimizer_kernels() { return kKernels; }
}  // namespace graft::cpu
