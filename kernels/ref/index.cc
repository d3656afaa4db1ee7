// Lookups and scatters in double.
#include "kernels/move.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {
constexpr KernelEntry kKernels[] = {
    {"embedding", move::Embedding},
    {"embedding_backward", move::EmbeddingBackward<double>},
    {"gather", move::Gather},
    {"scatter", move::Scatter},
    {"scatter_add", move::ScatterAs<double, true>},
    {"index_select", move::IndexSelect},
    {"read_rows", move::ReadRows},
    {"write_rows", move::WriteRows},
    {"index_add", move::IndexAdd<double>},
};
}  // namespace
Family index_kernels() { return kKernels; }
}  // namespace graft::ref
