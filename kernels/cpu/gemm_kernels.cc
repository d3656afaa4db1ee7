// The kernels of the matrix product for each instruction set, and the choice among them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_kernels.cc"
#include "kernels/cpu/gemm_kernels.h"

#include <utility>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/gemm_dot-inl.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_row-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/part-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace gemm {
namespace hn = hwy::HWY_NAMESPACE;

template <class Op>
HWY_INLINE void EpilogueRows(const GemmEpilogue& e, float* c, int64_t ldc, int64_t rows,
                             int64_t columns, Op op) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < rows; ++i) {
    float* row = c + i * ldc;
    int64_t j = 0;
    for (; j + n <= columns; j += n) {
      auto v = hn::LoadU(d, row + j);
      if (e.bias != nullptr) v = hn::Add(v, hn::LoadU(d, e.bias + j));
      hn::StoreU(op(d, v), d, row + j);
    }
    if (j < columns) {
      const auto mask = hn::FirstN(d, static_cast<size_t>(columns - j));
      auto v = LoadMasked(d, mask, row + j);
      if (e.bias != nullptr) v = hn::Add(v, LoadMasked(d, mask, e.bias + j));
      StoreMasked(op(d, v), mask, d, row + j);
    }
  }
}

void Epilogue(const GemmEpilogue& e, float* c, int64_t ldc, int64_t rows, int64_t columns) {
  const auto run = [&](auto op) HWY_ATTR { EpilogueRows(e, c, ldc, rows, columns, op); };
  switch (e.activation) {
    case Activation::none:
      return run([](auto, auto v) HWY_ATTR { return v; });
    case Activation::relu:
      return run([](auto d, auto v) HWY_ATTR { return ReluV(d, v); });
    case Activation::gelu_erf:
      return run([](auto d, auto v) HWY_ATTR { return GeluErfV(d, v); });
    case Activation::gelu_tanh:
      return run([](auto d, auto v) HWY_ATTR { return GeluTanhV(d, v); });
    case Activation::silu:
      return run([](auto d, auto v) HWY_ATTR { return SiluV(d, v); });
    case Activation::tanh:
      return run([](auto d, auto v) HWY_ATTR { return TanhV(d, v); });
  }
}

void Widen(const uint16_t* bf16, int64_t n, float* out) {
  const auto* x = reinterpret_cast<const hwy::bfloat16_t*>(bf16);
  for (int64_t i = 0; i < n; i += kColumns) {
    Vectors<kVectors> row;
    Load(x + i, row);
    Store(row, out + i);
  }
}

// Tiles of more rows than this target's registers hold do not exist.
template <int kM, typename B>
constexpr auto TileOrNull() -> void (*)(const TileArgs&) {
  if constexpr (kM > 0 && kM <= kRows) {
    return &Tile<kM, B>;
  } else {
    return nullptr;
  }
}

template <typename B, size_t... kM>
constexpr void SetTiles(void (*(&tiles)[kMostTileRows + 1])(const TileArgs&),
                        std::index_sequence<kM...>) {
  ((tiles[kM] = TileOrNull<static_cast<int>(kM), B>()), ...);
}

constexpr GemmKernels Kernels() {
  GemmKernels k = {.tile_rows = kRows,
                   .tile_columns = kColumns,
                   .tile = {},
                   .tile_bf16 = {},
                   .row = &Row<float>,
                   .row_bf16 = &Row<hwy::bfloat16_t>,
                   .pack_along_k = &PackAlongK,
                   .pack_across_k = &PackAcrossK,
                   .dot = &Dot,
                   .widen = &Widen,
                   .epilogue = &Epilogue};
  constexpr auto kCounts = std::make_index_sequence<kMostTileRows + 1>();
  SetTiles<float>(k.tile, kCounts);
  SetTiles<hwy::bfloat16_t>(k.tile_bf16, kCounts);
  return k;
}

}  // namespace gemm

const GemmKernels* GemmKernelsOfTarget() {
  static constexpr GemmKernels kTable = gemm::Kernels();
  return &kTable;
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {
HWY_EXPORT(GemmKernelsOfTarget);
const GemmKernels& BestGemmKernels() { return *HWY_DYNAMIC_DISPATCH(GemmKernelsOfTarget)(); }
}  // namespace graft::cpu
#endif
