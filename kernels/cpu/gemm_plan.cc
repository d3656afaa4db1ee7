#include "kernels/cpu/gemm_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "kernels/cpu/gemm_kernels.h"

namespace graft::cpu {
namespace {

constexpr int64_t kAny = int64_t{1} << 62;
// Floats of a full block of B, and in a rule: as many columns as make one.
constexpr int64_t kBlockFloats = 144 * 1024, kFull = 0;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
// Every piece of scratch memory begins at a line.
size_t Lines(int64_t floats) { return static_cast<size_t>(CeilDiv(floats, 16) * 16); }

bool IsPacked(MatrixLayout b) {
  return b == MatrixLayout::panels || b == MatrixLayout::panels_bf16;
}

// The rules are read from the top; the first that fits decides. Block sizes: a block of B stays in
// 1 MB of L2 beside the tiles of A and C that pass through, and beside the part of the next block
// that is fetched meanwhile. A longer kc reads and writes C less often; a row tile of A (14 x kc)
// need not stay in L1 for that, L2 feeds both operands. With few rows the weight itself is what
// moves, in one stream; single rows only load, and the processor sees their stream by itself. With
// one tile of rows each element of B is used once: packing it would cost more than the product, and
// short blocks of long rows are the order in which it lies in memory.
struct Rule {
  const char* name;
  GemmPath path;
  int64_t most_rows;      // m up to which it applies
  int64_t most_b_floats;  // k * n up to which it applies
  int64_t kc, nc;         // at most
  bool k_outer, prefetch;
};

constexpr std::array kPackedBefore = {
    Rule{"single row, panels", GemmPath::row, 1, kAny, 0, 0, true, false},
    Rule{"two rows, panels", GemmPath::packed, 2, kAny, 256, 32, false, false},
    Rule{"few rows, panels", GemmPath::packed, 64, kAny, 256, 32, false, true},
    Rule{"panels", GemmPath::packed, kAny, kAny, 1024, kFull, true, true},
};
constexpr std::array kRowsLayout = {
    Rule{"one tile of rows, B in place", GemmPath::in_place, kMostTileRows, kAny, 64, 4096, true,
         false},
    Rule{"few rows, B in place", GemmPath::in_place, 64, 512 * 1024, 256, 512, true, false},
    Rule{"flat, B in place", GemmPath::in_place, kAny, 64 * 1024, 256, 512, true, false},
    Rule{"few rows, pack B", GemmPath::packed, 64, kAny, 128, 32, false, false},
    Rule{"pack B", GemmPath::packed, kAny, kAny, 768, kFull, true, false},
};
constexpr std::array kTransposedLayout = {
    Rule{"few rows, transpose B", GemmPath::packed, 64, kAny, 128, 32, false, false},
    Rule{"transpose B", GemmPath::packed, kAny, kAny, 768, kFull, true, false},
};

template <size_t kN>
const Rule& FirstFit(const std::array<Rule, kN>& rules, const GemmProblem& p) {
  for (const Rule& rule : rules) {
    if (p.m <= rule.most_rows && p.k * p.n <= rule.most_b_floats) return rule;
  }
  return rules.back();
}

const Rule& RuleOf(const GemmProblem& p) {
  static constexpr Rule kDot = {"thin", GemmPath::dot, kAny, kAny, 0, 0, true, false};
  static constexpr Rule kSwapped = {
      "thin, A transposed", GemmPath::swapped, kAny, kAny, 256, 512, true, false};
  const bool stored = p.b == MatrixLayout::rows || p.b == MatrixLayout::cols;
  if (stored && p.n <= kThinColumns) {
    if (p.a == MatrixLayout::cols) return kSwapped;
    return kDot;
  }
  if (IsPacked(p.b)) return FirstFit(kPackedBefore, p);
  if (p.b == MatrixLayout::rows) return FirstFit(kRowsLayout, p);
  return FirstFit(kTransposedLayout, p);
}

// Rows that go through all blocks of B before the next ones. Packed A is read from nearer than
// memory, and so is C from one block along k to the next (4 % at 2048^3); a B that is packed on the
// way is packed once for each group.
int64_t GroupRows(MatrixLayout b, int64_t k_blocks) {
  return IsPacked(b) || k_blocks > 1 ? 1024 : 4096;
}

// Below this many operations a second thread costs more than it saves.
constexpr double kFlopsPerThread = 5e5;

// Cuts one product into cells for `threads` threads: rows or columns or both. Each cell packs its
// own part of A and B, so a cut along one operand repeats the packing of the other; the costs are
// in cycles per element, relative to 16 products of a tile per cycle.
void ChooseGrid(const GemmProblem& p, int threads, GemmPlan& plan) {
  const double pack_a = 1.0;
  const double read_b = IsPacked(p.b) ? 0.25 : 0.75;
  double best = 0;
  for (int rows = 1; rows <= threads; ++rows) {
    if (threads % rows != 0) continue;
    const int columns = threads / rows;
    const int64_t m = CeilDiv(p.m, rows);
    const int64_t n = CeilDiv(CeilDiv(p.n, kPanel), columns) * kPanel;
    const double cost = static_cast<double>(p.k) *
                        (static_cast<double>(m) * static_cast<double>(n) / 16 +
                         static_cast<double>(m) * pack_a + static_cast<double>(n) * read_b);
    if (rows == 1 || cost < best) {
      best = cost;
      plan.row_cells = rows;
      plan.column_cells = columns;
    }
  }
}

}  // namespace

size_t GemmPlan::workspace_bytes() const {
  const size_t floats = shared_floats + static_cast<size_t>(threads) * thread_floats;
  return floats == 0 ? 0 : floats * sizeof(float) + 64;
}

GemmPlan PlanGemm(const GemmProblem& p, int threads) {
  GemmPlan plan;
  if (p.m == 0 || p.n == 0 || p.k == 0 || p.batch == 0) return plan;
  const Rule& rule = RuleOf(p);
  plan.path = rule.path;
  plan.rule = rule.name;
  plan.k_outer = rule.k_outer;
  plan.prefetch = rule.prefetch;

  const double flops = 2.0 * static_cast<double>(p.batch) * static_cast<double>(p.m) *
                       static_cast<double>(p.n) * static_cast<double>(p.k);
  const double most = std::max(1.0, flops / kFlopsPerThread);
  plan.threads = most < threads ? static_cast<int>(most) : std::max(1, threads);
  // A batch that shares out evenly enough is cut between products, not within them.
  const bool whole = p.batch % plan.threads == 0 || p.batch >= 4 * plan.threads;
  const int cells = whole ? 1 : plan.threads;

  if (rule.path == GemmPath::dot) {
    plan.row_cells = cells;
    // Dot products want B along k.
    if (p.b == MatrixLayout::rows) plan.thread_floats = Lines(p.n * p.k);
    return plan;
  }
  if (rule.path == GemmPath::row) {
    plan.column_cells = cells;
    plan.thread_floats = Lines(p.k);
    return plan;
  }
  // The swapped product has the roles of m and n exchanged and B is what A was.
  const int64_t m = rule.path == GemmPath::swapped ? p.n : p.m;
  const int64_t n = rule.path == GemmPath::swapped ? p.m : p.n;
  if (rule.path == GemmPath::swapped) {
    plan.column_cells = cells;
  } else {
    ChooseGrid(p, cells, plan);
  }
  const int64_t k_blocks = CeilDiv(p.k, rule.kc);
  plan.kc = CeilDiv(p.k, k_blocks);
  // Panels of B that were transposed when packed are cut at their borders.
  plan.kc = CeilDiv(plan.kc, kPanel) * kPanel;
  plan.nc = rule.nc != kFull ? rule.nc : std::max(kPanel, kBlockFloats / plan.kc / kPanel * kPanel);
  plan.mc = std::min(m, GroupRows(p.b, k_blocks));
  const int64_t cell_rows = std::min(CeilDiv(m, plan.row_cells), plan.mc);
  const int64_t cell_columns = std::min(CeilDiv(CeilDiv(n, kPanel), plan.column_cells) * kPanel,
                                        CeilDiv(n, kPanel) * kPanel);
  plan.nc = std::min(plan.nc, cell_columns);
  const int64_t k_kept = plan.k_outer ? std::min(plan.kc, p.k) : p.k;
  plan.keep_a = !plan.k_outer || cell_columns > plan.nc;
  plan.a_floats =
      Lines((plan.keep_a ? cell_rows : std::min<int64_t>(kMostTileRows, cell_rows)) * k_kept);
  if (!IsPacked(p.b)) {
    const bool in_place = rule.path == GemmPath::in_place || rule.path == GemmPath::swapped;
    // In place only a last panel of less than 32 columns is copied, to be padded.
    plan.b_floats = Lines(std::min(plan.kc, p.k) * (in_place ? kPanel : plan.nc));
  }
  plan.thread_floats = plan.a_floats + plan.b_floats;
  if (rule.path == GemmPath::swapped) plan.thread_floats += Lines(m * cell_columns);
  return plan;
}

std::string Describe(const GemmPlan& p) {
  return fmt::format("{}: kc={} nc={} {}{}, {}x{} cells, {} threads", p.rule, p.kc, p.nc,
                     p.k_outer ? "k outer" : "k inner", p.prefetch ? ", prefetch" : "", p.row_cells,
                     p.column_cells, p.threads);
}

}  // namespace graft::cpu
