// Work split over threads. Work is always split over outputs and every output is computed the same
// way whatever the number of threads, so results do not depend on it.
#pragma once

#include <cstdint>
#include <type_traits>

namespace graft {

// Number of threads of parallel_for; at least 1. Starts as OpenMP's default.
int num_threads();
void set_num_threads(int n);

namespace detail {
void run_partition(int64_t n, int64_t grain, void* context, void (*body)(void*, int64_t, int64_t));
}

// Calls body(begin, end) on disjoint ranges that cover [0, n), each at least `grain` long where n
// allows. Serial when one range suffices or when called from inside a parallel_for. Never
// allocates. The body must not throw.
template <typename Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  using Callable = std::remove_reference_t<Body>;
  detail::run_partition(n, grain, const_cast<void*>(static_cast<const void*>(&body)),
                        [](void* f, int64_t b, int64_t e) { (*static_cast<Callable*>(f))(b, e); });
}

}  // namespace graft
