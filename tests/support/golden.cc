#include "tests/support/golden.h"

#include <cmath>
#include <cstdlib>

namespace graft::testing {

std::string golden_dir() {
  const char* dir = std::getenv("GRAFT_GOLDEN");
  return dir != nullptr ? dir : std::string(GRAFT_SOURCE_DIR) + "/tests/golden/data";
}

std::string mismatch(const Tensor& got, const Tensor& want, double rtol, double atol) {
  if (got.shape() != want.shape())
    return fmt::format("shape {} instead of {}", got.shape().str(), want.shape().str());
  const Tensor a = got.cast(want.dtype()).cast(DType::f64),
               b = want.cast(DType::f64);  // overflow as they do
  double worst = 0;
  std::string text;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double x = a.data<double>()[i], y = b.data<double>()[i];
    const bool finite = std::isfinite(x) && std::isfinite(y);
    const bool same = x == y || (std::isnan(x) && std::isnan(y));
    const double excess = same     ? 0
                          : finite ? std::fabs(x - y) / (atol + rtol * std::fabs(y))
                                   : INFINITY;
    if (excess > 1 && excess > worst) {
      worst = excess;
      text =
          fmt::format("element {}: {} instead of {}, {:.3g} times the tolerance (rtol {}, atol {})",
                      i, x, y, excess, rtol, atol);
    }
  }
  return text;
}

}  // namespace graft::testing
