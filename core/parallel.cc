#include "core/parallel.h"

#include <omp.h>

#include <algorithm>

namespace graft {
namespace {
int g_threads = 0;  // 0: not set yet
}

int num_threads() { return g_threads > 0 ? g_threads : omp_get_max_threads(); }
void set_num_threads(int n) { g_threads = std::max(1, n); }

namespace detail {

void run_partition(int64_t n, int64_t grain, void* context, void (*body)(void*, int64_t, int64_t)) {
  if (n <= 0) return;
  const int64_t most = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
  const int parts = static_cast<int>(std::min<int64_t>(num_threads(), most));
  if (parts == 1 || omp_in_parallel()) {
    body(context, 0, n);
    return;
  }
#pragma omp parallel num_threads(parts)
  {
    const int64_t team = omp_get_num_threads();
    const int64_t id = omp_get_thread_num();
    body(context, n * id / team, n * (id + 1) / team);
  }
}

}  // namespace detail
}  // namespace graft
