// Masks of one bit per element, least significant bit first: which elements are positive, and the
// gradient that passes where they are.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bits.cc"
#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"

#ifndef GRAFT_KERNELS_CPU_BITS_ONCE
#define GRAFT_KERNELS_CPU_BITS_ONCE
namespace graft::cpu {
// Elements that are a whole number of vectors and of bytes whatever the width. Threads split
// between blocks, so no two write one byte.
constexpr size_t kBlock = 64, kBlockBytes = kBlock / 8;
// Highway may touch this many bytes beside those of a vector.
constexpr size_t kBeside = 8;
}  // namespace graft::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kBlock>;

HWY_INLINE void PositiveBlock(const float* x, uint8_t* bits) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < kBlock; i += lanes) {
    const auto positive = hn::Gt(hn::LoadU(d, x + i), hn::Zero(d));
    if (lanes >= 8) {
      hn::StoreMaskBits(d, positive, bits + i / 8);
    } else {
      uint8_t few[kBeside];
      hn::StoreMaskBits(d, positive, few);
      const int before = i % 8 == 0 ? 0 : bits[i / 8];
      bits[i / 8] = static_cast<uint8_t>(before | few[0] << (i % 8));
    }
  }
}

HWY_INLINE void PassBlock(const float* dy, const uint8_t* bits, float* dx) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < kBlock; i += lanes) {
    const uint8_t few[kBeside] = {static_cast<uint8_t>(bits[i / 8] >> (i % 8))};
    const auto positive = hn::LoadMaskBits(d, lanes >= 8 ? bits + i / 8 : few);
    hn::StoreU(hn::IfThenElseZero(positive, hn::LoadU(d, dy + i)), d, dx + i);
  }
}

// Blocks from `begin` to `end` of n elements. The last one, or two, go through a copy: there
// Highway would reach beyond the bits, and vectors beyond the elements.
void PositiveBlocks(const float* x, size_t begin, size_t end, size_t n, uint8_t* bits) {
  size_t b = begin;
  for (; b + 1 < end; ++b) PositiveBlock(x + b * kBlock, bits + b * kBlockBytes);
  float tail[kBlock] = {};
  uint8_t last[kBlockBytes + kBeside];
  const size_t left = std::min(kBlock, n - b * kBlock);
  std::copy_n(x + b * kBlock, left, tail);
  PositiveBlock(tail, last);
  std::copy_n(last, (left + 7) / 8, bits + b * kBlockBytes);
}

void PassBlocks(const float* dy, const uint8_t* bits, size_t begin, size_t end, size_t n,
                float* dx) {
  size_t b = begin;
  for (; b + 1 < end; ++b) PassBlock(dy + b * kBlock, bits + b * kBlockBytes, dx + b * kBlock);
  float tail[kBlock] = {};
  uint8_t last[kBlockBytes + kBeside] = {};
  const size_t left = std::min(kBlock, n - b * kBlock);
  std::copy_n(dy + b * kBlock, left, tail);
  std::copy_n(bits + b * kBlockBytes, (left + 7) / 8, last);
  PassBlock(tail, last, tail);
  std::copy_n(tail, left, dx + b * kBlock);
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(PositiveBlocks);
HWY_EXPORT(PassBlocks);

namespace {

// Blocks below which a second thread costs more than it saves.
constexpr int64_t kGrain = 16 * 1024 / kBlock;

int64_t Blocks(int64_t n) { return (n + int64_t{kBlock} - 1) / int64_t{kBlock}; }

void PositiveBits(const KernelCall& c) {  // x -> bits
  const int64_t n = c.in(0).elements();
  const float* x = c.in(0).as<float>();
  uint8_t* bits = c.out().as<uint8_t>();
  const auto blocks = GRAFT_DISPATCH(PositiveBlocks);
  parallel_for(Blocks(n), kGrain, [&](int64_t begin, int64_t end) {
    blocks(x, static_cast<size_t>(begin), static_cast<size_t>(end), static_cast<size_t>(n), bits);
  });
}

void ReluBackwardBits(const KernelCall& c) {  // dy, bits -> dx
  const int64_t n = c.out().elements();
  const float* dy = c.in(0).as<float>();
  const uint8_t* bits = c.in(1).as<uint8_t>();
  float* dx = c.out().as<float>();
  const auto blocks = GRAFT_DISPATCH(PassBlocks);
  parallel_for(Blocks(n), kGrain, [&](int64_t begin, int64_t end) {
    blocks(dy, bits, static_cast<size_t>(begin), static_cast<size_t>(end), static_cast<size_t>(n),
           dx);
  });
}

constexpr KernelEntry kKernels[] = {{"positive_bits", PositiveBits},
                                    {"relu_backward_bits", ReluBackwardBits}};

}  // namespace

Family bits_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
