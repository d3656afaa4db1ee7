// The drivers of the matrix product: plain loops over cells, blocks and tiles. Vectors live in the
// kernels of gemm_kernels.h, threads and sizes here and in gemm_plan.cc.
#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_plan.h"

namespace graft::cpu {
namespace {

constexpr int64_t kFloatsPerLine = 16;

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Part `i` of `parts` equal parts of [0, n), cut at multiples of `unit`.
Range Part(int64_t n, int64_t unit, int64_t i, int64_t parts) {
  const int64_t units = (n + unit - 1) / unit;
  return {std::min(n, units * i / parts * unit), std::min(n, units * (i + 1) / parts * unit)};
}

const float* ElementOf(const GemmOperand& x, int64_t i, int64_t j) {
  return x.layout == MatrixLayout::rows ? x.data + i * x.stride + j : x.data + j * x.stride + i;
}

void FinishTile(const GemmKernels& f, const GemmArgs& g, int64_t i, int64_t j, int64_t rows,
                int64_t columns) {
  GemmEpilogue e = g.epilogue;
  if (e.bias == nullptr && e.activation == Activation::none) return;
  if (e.bias != nullptr) e.bias += j;
  f.epilogue(e, g.c + i * g.ldc + j, g.ldc, rows, columns);
}

// Rows [i0, i0 + rows) and [k0, k0 + k) of A, as a tile wants them.
void PackTileOfA(const GemmKernels& f, const GemmArgs& g, int64_t i0, int64_t rows, Range k,
                 float* out) {
  const PackArgs p = {ElementOf(g.a, i0, k.begin), g.a.stride, rows, rows, k.size(), g.alpha, out};
  g.a.layout == MatrixLayout::rows ? f.pack_along_k(p) : f.pack_across_k(p);
}

bool IsTransposedPanels(MatrixLayout b) {
  return b == MatrixLayout::panels_transposed || b == MatrixLayout::panels_bf16_transposed;
}

template <typename T>
void FetchLines(const T* at, int64_t n) {
  constexpr auto kLine = static_cast<int64_t>(kLineBytes / sizeof(T));
  for (int64_t i = 0; i < n; i += kLine) __builtin_prefetch(at + i);
}

// One panel of B: columns [j, j + 32) as far as there are, rows `k`.
void PackPanelOfB(const GemmKernels& f, const GemmOperand& b, int64_t n, int64_t j, Range k,
                  float* out) {
  const int64_t columns = std::min(kPanel, n - j);
  if (IsTransposedPanels(b.layout)) {
    // Element (k, j) lies in panel k / 32, row j, column k % 32.
    for (int64_t p = k.begin; p < k.end;) {
      const int64_t stop = std::min(k.end, p / kPanel * kPanel + kPanel);
      const int64_t block = p / kPanel * kPanel * n + j * kPanel;  // [columns][kPanel]
      float wide[kPanel * kPanel];
      const float* src = wide;
      // The next block is one of its own, far away: 4 KB of the next panel, or 2.
      if (b.layout == MatrixLayout::panels_bf16_transposed) {
        FetchLines(b.bf16 + block + kPanel * n, columns * kPanel);
        f.widen(b.bf16 + block, columns * kPanel, wide);
      } else {
        src = b.data + block;
        FetchLines(src + kPanel * n, columns * kPanel);
      }
      f.pack_along_k(
          {src + p % kPanel, kPanel, columns, kPanel, stop - p, 1, out + (p - k.begin) * kPanel});
      p = stop;
    }
    return;
  }
  const PackArgs p = {ElementOf(b, k.begin, j), b.stride, columns, kPanel, k.size(), 1, out};
  b.layout == MatrixLayout::cols ? f.pack_along_k(p) : f.pack_across_k(p);
}

// A block of B: rows k, columns j.
struct Block {
  Range k = {0, 0}, j = {0, 0};
};

// Where a block of B is read.
struct BlockOfB {
  const void* data;
  int64_t step;        // elements from one k to the next
  int64_t panel_step;  // and from one panel to the next
};

// A cell of the product, one thread's work, on packed A and on B packed or in place.
class BlockedProduct {
 public:
  BlockedProduct(const GemmKernels& f, const GemmArgs& g, const GemmPlan& plan, Range rows,
                 Range columns, float* scratch)
      : f_(f),
        g_(g),
        plan_(plan),
        rows_(rows),
        columns_(columns),
        packed_a_(scratch),
        packed_b_(scratch + plan.a_floats),
        in_place_(plan.path != GemmPath::packed),
        bf16_(g.b.layout == MatrixLayout::panels_bf16),
        tiles_(bf16_ ? f.tile_bf16 : f.tile),
        b_bytes_(bf16_ ? sizeof(uint16_t) : sizeof(float)),
        row_tiles_((rows.size() + f.tile_rows - 1) / f.tile_rows) {}

  void Run() {
    if (rows_.size() == 0 || columns_.size() == 0) return;
    const int64_t k_blocks = (g_.k + plan_.kc - 1) / plan_.kc;
    const int64_t n_blocks = (columns_.size() + plan_.nc - 1) / plan_.nc;
    const int64_t steps = k_blocks * n_blocks;
    const auto block = [&](int64_t step) {
      const int64_t kb = plan_.k_outer ? step / n_blocks : step % k_blocks;
      const int64_t nb = plan_.k_outer ? step % n_blocks : step / k_blocks;
      const int64_t j = columns_.begin + nb * plan_.nc;
      return Block{{kb * plan_.kc, std::min(g_.k, (kb + 1) * plan_.kc)},
                   {j, std::min(columns_.end, j + plan_.nc)}};
    };
    for (int64_t step = 0; step < steps; ++step) {
      const Block now = block(step);
      const Block next = step + 1 < steps ? block(step + 1) : Block{};
      Multiply(now, PrepareB(now), next);
    }
  }

 private:
  const void* PanelsOfB() const {
    return bf16_ ? static_cast<const void*>(g_.b.bf16) : static_cast<const void*>(g_.b.data);
  }
  // What lies `n` elements of B behind `at`.
  const std::byte* ElementsOn(const void* at, int64_t n) const {
    return static_cast<const std::byte*>(at) + n * b_bytes_;
  }
  Range RowTile(int64_t t) const {
    return {rows_.begin + rows_.size() * t / row_tiles_,
            rows_.begin + rows_.size() * (t + 1) / row_tiles_};
  }

  BlockOfB PrepareB(const Block& block) {
    const auto& [k, j] = block;
    if (g_.b.layout == MatrixLayout::panels || bf16_) {
      return {ElementsOn(PanelsOfB(), j.begin * g_.k + k.begin * kPanel), kPanel, g_.k * kPanel};
    }
    if (in_place_) {
      const int64_t last = j.end / kPanel * kPanel;
      if (j.end == g_.n && last < g_.n) PackPanelOfB(f_, g_.b, g_.n, last, k, packed_b_);
      return {ElementOf(g_.b, k.begin, j.begin), g_.b.stride, kPanel};
    }
    for (int64_t p = j.begin; p < j.end; p += kPanel) {
      PackPanelOfB(f_, g_.b, g_.n, p, k, packed_b_ + (p - j.begin) * k.size());
    }
    return {packed_b_, kPanel, k.size() * kPanel};
  }

  // A row tile of A is packed just before its first use.
  void Multiply(const Block& block, const BlockOfB& b, const Block& next) {
    const auto& [k, j] = block;
    const bool first = k.begin == 0, pack_a = j.begin == columns_.begin;
    float* a = packed_a_ + (plan_.k_outer ? 0 : k.begin * rows_.size());
    for (int64_t t = 0; t < row_tiles_; ++t) {
      const Range i = RowTile(t);
      float* tile_a = plan_.keep_a ? a + (i.begin - rows_.begin) * k.size() : a;
      if (pack_a) PackTileOfA(f_, g_, i.begin, i.size(), k, tile_a);
      for (int64_t p = j.begin; p < j.end; p += kPanel) {
        TileArgs tile = {.a = tile_a,
                         .b = ElementsOn(b.data, (p - j.begin) / kPanel * b.panel_step),
                         .b_step = b.step,
                         .k = k.size(),
                         .c = g_.c + i.begin * g_.ldc + p,
                         .ldc = g_.ldc,
                         .base = first ? g_.base : g_.c,
                         .next = NextTile(first && g_.base != nullptr ? g_.base : g_.c, t, p, j),
                         .fetch_a = pack_a ? FetchOfA(t, p, block) : FetchArgs{},
                         .fetch_b = FetchOfB(t, p - j.begin, next)};
        if (tile.base != nullptr) tile.base += i.begin * g_.ldc + p;
        const int64_t columns = std::min(kPanel, j.end - p);
        if (in_place_ && columns < kPanel) {
          tile.b = packed_b_;
          tile.b_step = kPanel;
        }
        Panel(tile, i.size(), columns);
        if (k.end == g_.k) FinishTile(f_, g_, i.begin, p, i.size(), columns);
      }
    }
  }

  // In a matrix laid out as C, where the tile after this one begins: to its right, or below.
  const float* NextTile(const float* matrix, int64_t t, int64_t p, Range j) const {
    if (p + kPanel < j.end) return matrix + RowTile(t).begin * g_.ldc + p + kPanel;
    return t + 1 < row_tiles_ ? matrix + RowTile(t + 1).begin * g_.ldc + j.begin : nullptr;
  }

  // The rows that the next row tile is packed from, by the last two panels before: a line per two k
  // is eight rows in one panel.
  FetchArgs FetchOfA(int64_t t, int64_t p, const Block& block) const {
    const auto& [k, j] = block;
    const int64_t line = k.size() / kFloatsPerLine;
    if (t + 1 == row_tiles_ || g_.a.layout != MatrixLayout::rows || line == 0) return {};
    const bool last = p + kPanel >= j.end;
    if (!last && p + 2 * kPanel < j.end) return {};
    const Range i = RowTile(t + 1);
    const int64_t half = i.size() / 2;
    const float* rows = ElementOf(g_.a, last ? i.begin + half : i.begin, k.begin);
    return {reinterpret_cast<const std::byte*>(rows), 1, line,
            (g_.a.stride - line * kFloatsPerLine) * static_cast<int64_t>(sizeof(float))};
  }

  // The panel at `offset` of the next block of B, all lines of two k per two k, by the last row
  // tiles of this one.
  FetchArgs FetchOfB(int64_t t, int64_t offset, const Block& next) const {
    if (!plan_.prefetch || next.j.begin + offset >= next.j.end) return {};
    const int64_t all = 2 * kPanel * b_bytes_ / kLineBytes;
    const int64_t lines = (all + row_tiles_ - 1) / row_tiles_;
    const int64_t part = t - (row_tiles_ - (all + lines - 1) / lines);
    if (part < 0) return {};
    const std::byte* panel =
        ElementsOn(PanelsOfB(), (next.j.begin + offset) * g_.k + next.k.begin * kPanel);
    const int64_t pairs = next.k.size() / 2;
    return {panel + part * lines * kLineBytes * pairs, static_cast<int>(lines), g_.k, 0};
  }

  // A row tile against one panel, which may be several tiles wide and may have padding at the end.
  void Panel(TileArgs tile, int64_t rows, int64_t columns) {
    const int64_t width = f_.tile_columns;
    for (int64_t j = 0; j < columns; j += width) {
      if (columns - j >= width) {
        tiles_[rows](tile);
      } else {
        PartialTile(tile, rows, columns - j);
      }
      tile.b = ElementsOn(tile.b, width);
      tile.c += width;
      if (tile.base != nullptr) tile.base += width;
    }
  }

  void PartialTile(TileArgs tile, int64_t rows, int64_t columns) {
    float whole[kMostTileRows * kPanel];
    float* c = tile.c;
    const int64_t ldc = tile.ldc, width = f_.tile_columns;
    if (tile.base != nullptr) {
      std::memset(whole, 0, sizeof(float) * static_cast<size_t>(rows * width));
      for (int64_t i = 0; i < rows; ++i) {
        std::copy_n(tile.base + i * ldc, columns, whole + i * width);
      }
      tile.base = whole;
    }
    tile.c = whole;
    tile.ldc = width;
    tiles_[rows](tile);
    for (int64_t i = 0; i < rows; ++i) std::copy_n(whole + i * width, columns, c + i * ldc);
  }

  const GemmKernels& f_;
  const GemmArgs& g_;
  const GemmPlan& plan_;
  const Range rows_, columns_;
  float* const packed_a_;
  float* const packed_b_;
  const bool in_place_, bf16_;
  void (*const* const tiles_)(const TileArgs&);
  const int64_t b_bytes_;  // of an element that a tile reads
  const int64_t row_tiles_;
};

void DotCell(const GemmKernels& f, const GemmArgs& g, Range i, float* scratch) {
  const float* b = g.b.data;
  int64_t ldb = g.b.stride;
  if (g.b.layout == MatrixLayout::rows) {
    f.pack_along_k({b, ldb, g.k, g.k, g.n, 1, scratch});
    b = scratch;
    ldb = g.k;
  }
  f.dot({g.a.data + i.begin * g.a.stride, b, g.a.stride, ldb, i.size(), g.n, g.k,
         g.c + i.begin * g.ldc, g.ldc, g.base == nullptr ? nullptr : g.base + i.begin * g.ldc,
         g.alpha});
  FinishTile(f, g, i.begin, 0, i.size(), g.n);
}

// Rows `i` of C as the transpose of B^T A^T.
void SwappedCell(const GemmKernels& f, const GemmArgs& g, const GemmPlan& plan, Range i,
                 float* scratch) {
  float* transposed = scratch + plan.a_floats + plan.b_floats;
  GemmArgs s = {.m = g.n, .n = i.size(), .k = g.k, .a = g.b, .b = g.a, .c = transposed};
  s.a.layout = g.b.layout == MatrixLayout::rows ? MatrixLayout::cols : MatrixLayout::rows;
  s.b.data += i.begin;
  s.b.layout = MatrixLayout::rows;
  s.ldc = i.size();
  s.alpha = g.alpha;
  if (g.base != nullptr) {
    s.base = transposed;
    for (int64_t r = i.begin; r < i.end; ++r) {
      for (int64_t j = 0; j < g.n; ++j) transposed[j * s.ldc + r - i.begin] = g.base[r * g.ldc + j];
    }
  }
  BlockedProduct(f, s, plan, {0, s.m}, {0, s.n}, scratch).Run();
  for (int64_t r = i.begin; r < i.end; ++r) {
    for (int64_t j = 0; j < g.n; ++j) g.c[r * g.ldc + j] = transposed[j * s.ldc + r - i.begin];
  }
  FinishTile(f, g, i.begin, 0, i.size(), g.n);
}

// Columns `j` of the only row of C.
void RowCell(const GemmKernels& f, const GemmArgs& g, Range j, float* scratch) {
  if (j.size() == 0) return;
  PackTileOfA(f, g, 0, 1, {0, g.k}, scratch);
  RowArgs row = {.a = scratch, .b = nullptr, .k = g.k, .columns = j.size(), .c = g.c + j.begin};
  row.base = g.base == nullptr ? nullptr : g.base + j.begin;
  if (g.b.layout == MatrixLayout::panels_bf16) {
    row.b = g.b.bf16 + j.begin * g.k;
    f.row_bf16(row);
  } else {
    row.b = g.b.data + j.begin * g.k;
    f.row(row);
  }
  FinishTile(f, g, 0, j.begin, 1, j.size());
}

// Groups of at most mc rows, as even as possible.
void RowGroups(const GemmKernels& f, const GemmArgs& g, const GemmPlan& plan, Range rows,
               Range columns, float* scratch) {
  const int64_t groups = (rows.size() + plan.mc - 1) / plan.mc;
  for (int64_t i = 0; i < groups; ++i) {
    const Range part = {rows.begin + rows.size() * i / groups,
                        rows.begin + rows.size() * (i + 1) / groups};
    BlockedProduct(f, g, plan, part, columns, scratch).Run();
  }
}

void RunCell(const GemmKernels& f, const GemmArgs& g, const GemmPlan& plan, int64_t cell,
             float* scratch) {
  const int64_t row = cell / plan.column_cells, column = cell % plan.column_cells;
  switch (plan.path) {
    case GemmPath::none: {
      for (int64_t r = 0; r < g.m; ++r) {
        float* c = g.c + r * g.ldc;
        if (g.base == nullptr) std::fill_n(c, g.n, 0.0f);
        if (g.base != nullptr && g.base != g.c) std::copy_n(g.base + r * g.ldc, g.n, c);
      }
      return FinishTile(f, g, 0, 0, g.m, g.n);
    }
    case GemmPath::dot:
      return DotCell(f, g, Part(g.m, 4, row, plan.row_cells), scratch);
    case GemmPath::swapped:
      return SwappedCell(f, g, plan, Part(g.m, kPanel, column, plan.column_cells), scratch);
    case GemmPath::row:
      return RowCell(f, g, Part(g.n, kPanel, column, plan.column_cells), scratch);
    case GemmPath::in_place:
    case GemmPath::packed:
      RowGroups(f, g, plan, Part(g.m, 1, row, plan.row_cells),
                Part(g.n, kPanel, column, plan.column_cells), scratch);
  }
}

}  // namespace

size_t GemmWorkspaceBytes(int64_t m, int64_t n, int64_t k, MatrixLayout a, MatrixLayout b,
                          int threads, int64_t batch) {
  size_t bytes = 0;
  for (int t = 1; t <= threads; ++t) {
    bytes = std::max(bytes, PlanGemm({m, n, k, a, b, batch}, t).workspace_bytes());
  }
  return bytes;
}

void Gemm(const GemmArgs& args, void* workspace, size_t workspace_bytes) {
  BatchedGemm(args, {}, workspace, workspace_bytes);
}

void BatchedGemm(const GemmArgs& args, const GemmBatch& batch, void* workspace,
                 size_t workspace_bytes) {
  if (args.m == 0 || args.n == 0 || batch.count == 0) return;
  const GemmProblem problem = {args.m, args.n, args.k, args.a.layout, args.b.layout, batch.count};
  int threads = num_threads();
  GemmPlan plan = PlanGemm(problem, threads);
  while (plan.workspace_bytes() > workspace_bytes && threads > 1) {
    plan = PlanGemm(problem, --threads);
  }
  GRAFT_DCHECK(plan.workspace_bytes() <= workspace_bytes);
  auto address = reinterpret_cast<uintptr_t>(workspace);
  address = (address + 63) / 64 * 64;
  float* scratch = reinterpret_cast<float*>(address);
  const GemmKernels& f = BestGemmKernels();
  const int64_t cells = int64_t{plan.row_cells} * plan.column_cells;
  const int64_t units = batch.count * cells;
  // Slot t of the scratch memory belongs to part t of the units, whichever thread does it.
  parallel_for(plan.threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Range part = Part(units, 1, t, plan.threads);
      for (int64_t u = part.begin; u < part.end; ++u) {
        const int64_t item = u / cells;
        GemmArgs g = args;
        g.a.data += item * batch.a_stride;
        g.b.data += item * batch.b_stride;
        g.c += item * batch.c_stride;
        if (g.base != nullptr) g.base += item * batch.c_stride;
        RunCell(f, g, plan, u % cells, scratch + static_cast<size_t>(t) * plan.thread_floats);
      }
    }
  });
}

size_t PackedBytes(int64_t k, int64_t n) {
  return static_cast<size_t>(PackedElements(n, k)) * sizeof(float);
}

void PackWeight(const GemmOperand& b, int64_t k, int64_t n, float* packed) {
  const GemmKernels& f = BestGemmKernels();
  parallel_for((n + kPanel - 1) / kPanel, 1 + 32 * 1024 / (k * kPanel + 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t p = begin; p < end; ++p) {
                   PackPanelOfB(f, b, n, p * kPanel, {0, k}, packed + p * kPanel * k);
                 }
               });
}

void PackWeight(const uint16_t* w, int64_t out, int64_t in, uint16_t* packed) {
  parallel_for((out + kPanel - 1) / kPanel, 1 + 32 * 1024 / (in * kPanel + 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t p = begin; p < end; ++p) {
                   const int64_t rows = std::min(kPanel, out - p * kPanel);
                   uint16_t* panel = packed + p * kPanel * in;
                   if (rows < kPanel) std::fill_n(panel, kPanel * in, uint16_t{0});
                   // Squares of 32 x 32, whose lines stay in L1 while they are transposed.
                   for (int64_t i0 = 0; i0 < in; i0 += kPanel) {
                     const int64_t i1 = std::min(in, i0 + kPanel);
                     for (int64_t r = 0; r < rows; ++r) {
                       const uint16_t* row = w + (p * kPanel + r) * in;
                       for (int64_t i = i0; i < i1; ++i) panel[i * kPanel + r] = row[i];
                     }
                   }
                 }
               });
}

void UnpackWeight(const float* packed, int64_t k, int64_t n, bool transposed, float* out,
                  int64_t stride) {
  parallel_for((n + kPanel - 1) / kPanel, 1 + 32 * 1024 / (k * kPanel + 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t j = begin * kPanel; j < std::min(n, end * kPanel); ++j) {
                   const float* column = packed + j / kPanel * kPanel * k + j % kPanel;
                   for (int64_t i = 0; i < k; ++i) {
                     out[transposed ? j * stride + i : i * stride + j] = column[i * kPanel];
                   }
                 }
               });
}

}  // namespace graft::cpu
