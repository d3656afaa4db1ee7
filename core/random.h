// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC11). A number is a function of (seed, stream, step, index) alone, so a recomputed
// mask is the same mask and results do not depend on the number of threads.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace graft {

using PhiloxBlock = std::array<uint32_t, 4>;

inline PhiloxBlock philox(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(a)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// One random function of an index. `stream` tells users apart (a node, a parameter), `step` the
// training step.
class RandomStream {
 public:
  RandomStream(uint64_t seed, uint64_t stream, uint64_t step = 0)
      : key0_(static_cast<uint32_t>(seed)),
        key1_(static_cast<uint32_t>(seed >> 32)),
        stream_(static_cast<uint32_t>(stream ^ (stream >> 32))),
        step_(static_cast<uint32_t>(step)) {}

  uint32_t bits(uint64_t index) const { return block(index / 4)[index % 4]; }
  PhiloxBlock block(uint64_t i) const { return philox(counter(i), key0_, key1_); }
  // In [0, 1), 24 bits.
  float uniform(uint64_t index) const { return static_cast<float>(bits(index) >> 8) * 0x1p-24f; }
  // Standard normal, Box-Muller on the index's own block.
  double normal(uint64_t index) const {
    const PhiloxBlock b = block(index);
    const double u = (static_cast<double>(b[0]) + 0.5) * 0x1p-32;
    const double v = static_cast<double>(b[1]) * 0x1p-32;
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
  }

  // What block(i) is a function of, for kernels that draw many at once.
  uint32_t key0() const { return key0_; }
  uint32_t key1() const { return key1_; }
  PhiloxBlock counter(uint64_t i) const {
    return {static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), stream_, step_};
  }

 private:
  uint32_t key0_, key1_, stream_, step_;
};

// FNV-1a: a stable stream number for a name.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t h = 14695981039346656037u;
  for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return h;
}

// The same as an attribute of a node: not negative.
constexpr int64_t stream_of_site(std::string_view name) {
  return static_cast<int64_t>(hash_name(name) >> 1);
}

}  // namespace graft
