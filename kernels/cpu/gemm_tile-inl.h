// The register tile of the matrix product. Included once per target.
#if defined(GRAFT_KERNELS_CPU_GEMM_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_GEMM_TILE_INL_H_
#undef GRAFT_KERNELS_CPU_GEMM_TILE_INL_H_
#else
#define GRAFT_KERNELS_CPU_GEMM_TILE_INL_H_
#endif

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/gemm_kernels.h"

HWY_BEFORE_NAMESPACE();
// A namespace of its own: per-target names of all kernel files meet in the parent.
namespace graft::cpu::HWY_NAMESPACE::gemm {
namespace hn = hwy::HWY_NAMESPACE;

// Rows and vectors of the largest tile: accumulators, one row of B and one broadcast element of A
// must fit the registers (31 of 32 for 14x2, 15 of 16 for 6x2), or they are spilled in the inner
// loop.
using TileTag = hn::CappedTag<float, 16>;
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(TileTag()));
#if HWY_ARCH_ARM_A64
inline constexpr int kVectors = 4, kRows = 6;
#elif HWY_TARGET == HWY_SCALAR
inline constexpr int kVectors = 4, kRows = 3;
#else
inline constexpr int kVectors = 2, kRows = kLanes >= 16 ? 14 : 6;
#endif
inline constexpr int kColumns = kVectors * kLanes;
static_assert(kPanel % kColumns == 0 && kRows <= kMostTileRows);

using TileVec = hn::Vec<TileTag>;

// A row of the tile, and a tile as its first row and the rest. Named members and recursion instead
// of arrays and loops: nothing is left for the optimizer that it could decide to keep in memory.
template <int kN>
struct Vectors {
  TileVec head;
  Vectors<kN - 1> tail;
};
template <>
struct Vectors<0> {};

template <int kN>
HWY_INLINE void Load(const float* HWY_RESTRICT p, Vectors<kN>& row) {
  if constexpr (kN > 0) {
    row.head = hn::LoadU(TileTag(), p);
    Load(p + kLanes, row.tail);
  }
}

// 16-bit floats are widened here: exact, and the bits of a product are those with the wide matrix.
template <int kN>
HWY_INLINE void Load(const hwy::bfloat16_t* HWY_RESTRICT p, Vectors<kN>& row) {
  if constexpr (kN > 0) {
    const hn::Rebind<hwy::bfloat16_t, TileTag> narrow;
    row.head = hn::PromoteTo(TileTag(), hn::LoadU(narrow, p));
    Load(p + kLanes, row.tail);
  }
}

template <int kN>
HWY_INLINE void Store(const Vectors<kN>& row, float* HWY_RESTRICT p) {
  if constexpr (kN > 0) {
    hn::StoreU(row.head, TileTag(), p);
    Store(row.tail, p + kLanes);
  }
}

template <int kN>
HWY_INLINE void Clear(Vectors<kN>& row) {
  if constexpr (kN > 0) {
    row.head = hn::Zero(TileTag());
    Clear(row.tail);
  }
}

template <int kN>
HWY_INLINE void MulAddRow(TileVec a, const Vectors<kN>& b, Vectors<kN>& row) {
  if constexpr (kN > 0) {
    row.head = hn::MulAdd(a, b.head, row.head);
    MulAddRow(a, b.tail, row.tail);
  }
}

template <int kM>
struct Accumulators {
  Vectors<kVectors> head;
  Accumulators<kM - 1> tail;
};
template <>
struct Accumulators<0> {};

template <int kM>
HWY_INLINE void LoadTile(const float* HWY_RESTRICT c, int64_t ldc, Accumulators<kM>& tile) {
  if constexpr (kM > 0) {
    Load(c, tile.head);
    LoadTile(c + ldc, ldc, tile.tail);
  }
}

template <int kM>
HWY_INLINE void ClearTile(Accumulators<kM>& tile) {
  if constexpr (kM > 0) {
    Clear(tile.head);
    ClearTile(tile.tail);
  }
}

// The lines of a tile.
template <int kM>
HWY_INLINE void FetchTile(const float* c, int64_t ldc) {
  if constexpr (kM > 0) {
    hwy::Prefetch(c);
    hwy::Prefetch(c + kColumns - 1);
    FetchTile<kM - 1>(c + ldc, ldc);
  }
}

template <int kM>
HWY_INLINE void StoreTile(const Accumulators<kM>& tile, float* HWY_RESTRICT c, int64_t ldc) {
  if constexpr (kM > 0) {
    Store(tile.head, c);
    StoreTile(tile.tail, c + ldc, ldc);
  }
}

template <int kM>
HWY_INLINE void MulAddColumn(const float* HWY_RESTRICT a, const Vectors<kVectors>& b,
                             Accumulators<kM>& tile) {
  if constexpr (kM > 0) {
    MulAddRow(hn::Set(TileTag(), *a), b, tile.head);
    MulAddColumn(a + 1, b, tile.tail);
  }
}

template <int kM, typename B>
HWY_INLINE void Step(const float* HWY_RESTRICT a, const B* HWY_RESTRICT b, Accumulators<kM>& tile) {
  Vectors<kVectors> row;
  Load(b, row);
  MulAddColumn(a, row, tile);
}

class Fetch {
 public:
  explicit Fetch(const FetchArgs& args) : args_(args), left_(args.row_lines) {}
  HWY_INLINE void Advance() {
#pragma GCC unroll 1
    for (int i = 0; i < args_.lines; ++i) {
      __builtin_prefetch(args_.at, 0, 2);
      args_.at += kLineBytes;
      if (--left_ == 0) {
        args_.at += args_.jump;
        left_ = args_.row_lines;
      }
    }
  }

 private:
  FetchArgs args_;
  int64_t left_;
};

template <int kM, bool kFetch, typename B>
HWY_INLINE void Run(const TileArgs& t) {
  Accumulators<kM> tile;
  if (t.base != nullptr) {
    LoadTile(t.base, t.ldc, tile);
  } else {
    ClearTile(tile);
  }
  // What is written at the end and what the next tile begins with are on their way meanwhile.
  if (t.base != t.c) FetchTile<kM>(t.c, t.ldc);
  if (t.next != nullptr) FetchTile<kM>(t.next, t.ldc);
  const float* HWY_RESTRICT a = t.a;
  const B* HWY_RESTRICT b = static_cast<const B*>(t.b);
  Fetch fetch_a(t.fetch_a), fetch_b(t.fetch_b);
  const int64_t step = t.b_step;
  int64_t pairs = t.k / 2;
#pragma GCC unroll 1
  for (; pairs > 0; --pairs) {
    if constexpr (kFetch) {
      fetch_a.Advance();
      fetch_b.Advance();
    }
    Step(a, b, tile);
    Step(a + kM, b + step, tile);
    a += 2 * kM;
    b += 2 * step;
  }
  if (t.k % 2 != 0) Step(a, b, tile);
  StoreTile(tile, t.c, t.ldc);
}

template <int kM, typename B>
void Tile(const TileArgs& t) {
  if (t.fetch_a.lines + t.fetch_b.lines > 0) {
    Run<kM, true, B>(t);
  } else {
    Run<kM, false, B>(t);
  }
}

}  // namespace graft::cpu::HWY_NAMESPACE::gemm
HWY_AFTER_NAMESPACE();

#endif  // toggle
