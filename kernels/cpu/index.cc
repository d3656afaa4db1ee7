// Lookups and scatters on the CPU.
#include "core/parallel.h"
#include "kernels/cpu/families.h"
#include "kernels/move.h"

namespace graft::cpu {
namespace {

// Threads own columns, so every row is summed in the order of the ids whatever their number.
void EmbeddingBackward(const KernelCall& c) {
  const auto& a = c.attr<EmbeddingAttrs>();
  const int64_t dim = c.out().shape[1], n = c.in(0).elements();
  float* w = c.out().as<float>();
  const float* dy = c.in(1).as<float>();
  parallel_for(dim, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < a.rows; ++row)
      std::fill(w + row * dim + begin, w + row * dim + end, 0.0f);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t id = LoadInt(c.in(0), i);
      if (id < 0 || id >= a.rows || id == a.padding_idx) continue;
      for (int64_t k = begin; k < end; ++k) w[id * dim + k] += dy[i * dim + k];
    }
  });
}

constexpr KernelEntry kKernels[] = {
    {"embedding", move::Embedding},
    {"embedding_backward", EmbeddingBackward},
    {"gather", move::Gather},
    {"scatter", move::Scatter},
    {"scatter_add", move::ScatterAs<float, true>},
    {"index_select", move::IndexSelect},
    {"read_rows", move::ReadRows},
    {"write_rows", move::WriteRows},
    {"index_add", move::IndexAdd<float>},
};

}  // namespace

Family index_kernels() { return kKernels; }

}  // namespace graft::cpu
