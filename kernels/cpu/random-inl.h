// Random bits of a stream (core/random.h), a vector of Philox blocks at a time. Included once per
// target, after hwy/highway.h.
#if defined(GRAFT_KERNELS_CPU_RANDOM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_RANDOM_INL_H_
#undef GRAFT_KERNELS_CPU_RANDOM_INL_H_
#else
#define GRAFT_KERNELS_CPU_RANDOM_INL_H_
#endif

#include <algorithm>

#include "core/random.h"
#include "hwy/highway.h"
#include "kernels/cpu/random_group.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// The halves of the 64-bit products of each lane with m.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void MulWide(D d, V x, V m, V& low, V& high) {
  const hn::Repartition<uint64_t, D> wide;
  const auto even = hn::MulEven(x, m);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, x))), m);
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
}
#endif

// out[i] = random.bits(kDrawGroup * group + i)
HWY_INLINE void DrawBits(const RandomStream& random, uint64_t group, uint32_t* HWY_RESTRICT out) {
  constexpr uint64_t kBlocks = kDrawGroup / 4;
#if HWY_TARGET == HWY_SCALAR
  for (uint64_t b = 0; b < kBlocks; ++b) {
    const PhiloxBlock block = random.block(kBlocks * group + b);
    std::copy(block.begin(), block.end(), out + 4 * b);
  }
#else
  const hn::CappedTag<uint32_t, kBlocks> d;
  using V = hn::Vec<decltype(d)>;
  const V m0 = hn::Set(d, 0xD2511F53u), m1 = hn::Set(d, 0xCD9E8D57u);
  for (uint64_t b = 0; b < kBlocks; b += hn::Lanes(d)) {
    const PhiloxBlock counter = random.counter(kBlocks * group + b);
    V c0 = hn::Add(hn::Set(d, counter[0]), hn::Iota(d, 0)), c1 = hn::Set(d, counter[1]);
    V c2 = hn::Set(d, counter[2]), c3 = hn::Set(d, counter[3]);
    uint32_t key0 = random.key0(), key1 = random.key1();
    for (int round = 0; round < 10; ++round) {
      V low0, high0, low1, high1;
      MulWide(d, c0, m0, low0, high0);
      MulWide(d, c2, m1, low1, high1);
      c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, key0));
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, key1));
      c1 = low1;
      c3 = low0;
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, out + 4 * b);
  }
#endif
}

// In [0, 1), as RandomStream::uniform of the same bits.
template <class D>
HWY_INLINE hn::Vec<D> UniformOf(D d, const uint32_t* bits) {
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const auto high = hn::BitCast(di, hn::ShiftRight<8>(hn::LoadU(du, bits)));
  return hn::Mul(hn::ConvertTo(d, high), hn::Set(d, 0x1p-24f));
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
