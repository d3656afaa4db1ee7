// Optimizer updates over double.
#include "kernels/dynamic_map.h"
#include "kernels/ref/families.h"
#include "kernels/update.h"

namespace graft::ref {
namespace {

// The code whose share is nearest.
template <bool kSigned>
uint8_t nearest_code(double share) {
  const auto& shares = dynamic_map::kShares<double, kSigned>;
  const auto above = std::lower_bound(shares.begin(), shares.end() - 1, share);
  const bool below = above != shares.begin() && share - above[-1] < *above - share;
  return static_cast<uint8_t>(above - shares.begin() - (below ? 1 : 0));
}

// Adam whose moments are blocks of codes (kernels/dynamic_map.h). A second moment that is not zero
// does not become zero, by which the next step would divide (Li et al., arXiv 2309.01507, 4.1).
void Adam8bit(const KernelCall& c) {
  using dynamic_map::kBlock;
  const update::AdamStep<double> step(c.attr<AdamAttrs>(), update::Scalars<double>(c, 4));
  double *p = c.out(0).as<double>(), *absmax_m = c.out(2).as<double>(),
         *absmax_v = c.out(4).as<double>();
  uint8_t *codes_m = c.out(1).as<uint8_t>(), *codes_v = c.out(3).as<uint8_t>();
  const double* grad = c.in(1).as<double>();
  const int64_t n = c.out(0).elements();
  for (int64_t block = 0; block < dynamic_map::blocks(n); ++block) {
    const int64_t begin = block * kBlock, end = std::min(n, begin + kBlock);
    std::array<double, kBlock> m{}, v{};
    double most_m = 0, most_v = 0;
    for (int64_t i = begin; i < end; ++i) {
      double &mi = m[static_cast<size_t>(i - begin)], &vi = v[static_cast<size_t>(i - begin)];
      mi = dynamic_map::kShares<double, true>[codes_m[i]] * absmax_m[block];
      vi = dynamic_map::kShares<double, false>[codes_v[i]] * absmax_v[block];
      step.moments(p[i], grad[i], mi, vi);
      p[i] = step.parameter(p[i], mi, vi);
      most_m = std::max(most_m, std::fabs(mi));
      most_v = std::max(most_v, vi);
    }
    absmax_m[block] = most_m;
    absmax_v[block] = most_v;
    for (int64_t i = begin; i < end; ++i) {
      const double mi = m[static_cast<size_t>(i - begin)], vi = v[static_cast<size_t>(i - begin)];
      codes_m[i] = nearest_code<true>(most_m == 0 ? 0 : mi / most_m);
      codes_v[i] = std::max(nearest_code<false>(most_v == 0 ? 0 : vi / most_v),
                            static_cast<uint8_t>(vi > 0 ? 1 : 0));
    }
  }
}

constexpr KernelEntry kKernels[] = {
    {"sgd_update", update::Sgd<double>},
    {"adam_update", update::Adam<double, false>},
    {"adam_8bit_update", Adam8bit},
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
