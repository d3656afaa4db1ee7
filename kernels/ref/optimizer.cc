// Optimizer updates over double.
#include "kernels/ref/families.h"
#include "kernels/update.h"

namespace graft::ref {
namespace {
constexpr KernelEntry kKernels[] = {
    {"sgd_update", update::Sgd<double>},
    {"adam_update", update::Adam<double, false>},
    {"amsgrad_update", update::Adam<double, true>},
    {"lion_update", update::Lion<double>},
    {"rmsprop_update", update::Rmsprop<double>},
    {"adagrad_update", update::Adagrad<double>},
    {"adafactor_update", update::Adafactor<double>},
    {"adalora_importance", update::AdaloraImportance<double>},
    {"adalora_allocate", update::AdaloraAllocate<double>, update::AdaloraWorkspace<double>},
    {"lr_schedule", update::Schedule<double>},
    {"increment", update::Increment},
    {"clip_coefficient", update::ClipCoefficient<double>}};
}  // namespace
Family optimizer_kernels() { return kKernels; }
}  // namespace graft::ref
