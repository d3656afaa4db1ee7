// Blockwise dynamic quantization to 8 bits: a block of 256 numbers is one float, its largest
// magnitude, and one code per number for its share of that. The 256 shares are those of
// bitsandbytes (Dettmers, arXiv 1511.04561; Dettmers et al., "8-bit Optimizers via Block-wise
// Quantization", arXiv 2110.02861): seven decades from 1e-7 to 1, each cut into equal cells, twice
// as many as in the decade below, whose middles are the shares; and 0; and 1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace graft::dynamic_map {

constexpr int64_t kBlock = 256;
constexpr int64_t blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }

constexpr int kDecades = 7;
// What a decade of cells ends with.
constexpr std::array<double, kDecades> kTop = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};

// The shares of one sign, in ascending order: rank 0 is zero, the last is 1. Signed maps have both
// signs but for -1, unsigned ones twice the cells.
template <bool kSigned>
struct Shares {
  static constexpr int cells(int decade) { return (kSigned ? 1 : 2) << decade; }
  static constexpr int first(int decade) { return 1 + cells(decade) - cells(0); }  // rank
  static constexpr int kCount = first(kDecades) + 1;

  static constexpr double cell_width(int decade) {
    return 0.9 / cells(decade);  // of kTop
  }
  static constexpr double of_rank(int rank) {
    if (rank == 0 || rank == kCount - 1) return rank == 0 ? 0 : 1;
    int decade = 0;
    while (rank >= first(decade + 1)) ++decade;
    const auto i = static_cast<size_t>(decade);
    return kTop[i] * (0.1 + cell_width(decade) * (rank - first(decade) + 0.5));
  }
  // From here on a share is nearer to `rank` than to the one below.
  static constexpr double lower_bound(int rank) { return (of_rank(rank - 1) + of_rank(rank)) / 2; }
};

// The code of 0. Codes ascend with the shares: negative ones lie in front.
template <bool kSigned>
constexpr int kZero = kSigned ? Shares<true>::kCount - 2 : 0;

template <typename T, bool kSigned>
constexpr std::array<T, 256> table() {
  std::array<T, 256> shares{};
  for (int code = 0; code < 256; ++code) {
    const int rank = code - kZero<kSigned>;
    const double share = Shares<kSigned>::of_rank(rank < 0 ? -rank : rank);
    shares[static_cast<size_t>(code)] = static_cast<T>(rank < 0 ? -share : share);
  }
  return shares;
}
// Share of a code.
template <typename T, bool kSigned>
inline constexpr std::array<T, 256> kShares = table<T, kSigned>();

}  // namespace graft::dynamic_map
