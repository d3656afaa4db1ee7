// Matrix products as shares of the ceiling measured beside them.
//   gemm_bench [--rounds N] [--threads N] [FILTER]     only lines whose name contains FILTER
#include <fmt/format.h>

#include <memory>

#include "bench/main.h"
#include "bench/measure.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/tensor.h"
#include "kernels/ceiling.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_plan.h"
#include "kernels/packed.h"

namespace graft::bench {
namespace {

using cpu::GemmOperand;
using cpu::MatrixLayout;

Tensor random(int64_t rows, int64_t columns, uint64_t seed) {
  Tensor t(DType::f32, {rows, columns});
  const RandomStream stream(seed, 0);
  for (int64_t i = 0; i < t.elements(); ++i) {
    t.data<float>()[i] = 2 * stream.uniform(static_cast<uint64_t>(i)) - 1;
  }
  return t;
}

const char* name_of(MatrixLayout b) {
  switch (b) {
    case MatrixLayout::rows:
      return "x B";
    case MatrixLayout::cols:
      return "x W^T";
    case MatrixLayout::panels:
      return "x W^T, packed once";
    case MatrixLayout::panels_transposed:
      return "dy W, packed once";
    case MatrixLayout::panels_bf16:
      return "x W^T, packed once, bf16";
    case MatrixLayout::panels_bf16_transposed:
      return "dy W, packed once, bf16";
  }
  return "";
}

struct Line {
  int64_t m, n, k;
  MatrixLayout b;
  double aim = 0;  // share of the ceiling on one thread
};

constexpr Line kLines[] = {
    {2048, 2048, 2048, MatrixLayout::cols, 0.88},
    {2048, 2048, 2048, MatrixLayout::panels, 0.92},
    {2048, 2048, 2048, MatrixLayout::panels_bf16},
    {2048, 2048, 2048, MatrixLayout::panels_transposed},
    {2048, 2048, 2048, MatrixLayout::panels_bf16_transposed},
    {1024, 768, 768, MatrixLayout::cols, 0.85},
    {1024, 768, 768, MatrixLayout::panels, 0.88},
    {1024, 768, 768, MatrixLayout::panels_bf16},
    {1024, 768, 768, MatrixLayout::rows},
    {1024, 768, 768, MatrixLayout::panels_transposed},
    {1024, 768, 768, MatrixLayout::panels_bf16_transposed},
    {2048, 384, 384, MatrixLayout::cols},
    {2048, 384, 384, MatrixLayout::panels},
    {2048, 384, 384, MatrixLayout::panels_transposed},
    {2048, 1536, 384, MatrixLayout::panels},
    {2048, 384, 1536, MatrixLayout::panels},
    {2048, 384, 1536, MatrixLayout::panels_transposed},
    {1024, 768, 8, MatrixLayout::cols},
    {1024, 8, 768, MatrixLayout::cols},
    {256, 768, 768, MatrixLayout::cols},
    {256, 768, 768, MatrixLayout::panels},
    {256, 768, 768, MatrixLayout::panels_bf16},
    {256, 768, 768, MatrixLayout::rows},
    {256, 768, 768, MatrixLayout::panels_transposed},
    {256, 768, 768, MatrixLayout::panels_bf16_transposed},
    {64, 768, 768, MatrixLayout::cols},
    {64, 768, 768, MatrixLayout::panels},
    {64, 768, 768, MatrixLayout::panels_bf16},
    {64, 768, 768, MatrixLayout::rows},
    {64, 768, 768, MatrixLayout::panels_transposed},
    {64, 768, 768, MatrixLayout::panels_bf16_transposed},
    {32, 768, 768, MatrixLayout::cols},
    {32, 768, 768, MatrixLayout::panels},
    {32, 768, 768, MatrixLayout::panels_bf16},
    {32, 4096, 4096, MatrixLayout::cols},
    {32, 4096, 4096, MatrixLayout::panels},
    {32, 4096, 4096, MatrixLayout::panels_bf16},
    {32, 4096, 4096, MatrixLayout::rows},
    {32, 4096, 4096, MatrixLayout::panels_transposed},
    {1, 4096, 4096, MatrixLayout::cols},
    {1, 4096, 4096, MatrixLayout::panels},
    {1, 4096, 4096, MatrixLayout::panels_bf16},
    {1, 768, 768, MatrixLayout::cols},
    {1, 768, 768, MatrixLayout::panels},
    {1, 768, 768, MatrixLayout::panels_bf16},
};

// Operands and workspace of one line, for any number of threads up to the machine's.
struct Product {
  explicit Product(const Line& l)
      : line(l), a(random(l.m, l.k, 1)), b(random(l.k, l.n, 2)), c(DType::f32, {l.m, l.n}) {
    args = {.m = l.m, .n = l.n, .k = l.k, .a = GemmOperand::rows(a.data<float>(), l.k)};
    args.b = {b.data<float>(), l.b == MatrixLayout::rows ? l.n : l.k, l.b};
    if (l.b != MatrixLayout::rows && l.b != MatrixLayout::cols) {
      const bool forward = l.b == MatrixLayout::panels || l.b == MatrixLayout::panels_bf16;
      const int64_t k = forward ? l.k : l.n, n = forward ? l.n : l.k;
      const bool bf16 =
          l.b == MatrixLayout::panels_bf16 || l.b == MatrixLayout::panels_bf16_transposed;
      Tensor panels(bf16 ? DType::bf16 : DType::f32, {PackedElements(n, k)});
      if (bf16) {
        auto* packed = static_cast<uint16_t*>(panels.bytes());
        const Tensor narrow = b.cast(DType::bf16);
        cpu::PackWeight(static_cast<const uint16_t*>(narrow.bytes()), n, k, packed);
        args.b = {nullptr, 0, l.b, packed};
      } else {
        cpu::PackWeight(GemmOperand::cols(b.data<float>(), k), k, n, panels.data<float>());
        args.b = {panels.data<float>(), 0, l.b};
      }
      b = panels;
    }
    args.c = c.data<float>();
    args.ldc = l.n;
    bytes = cpu::GemmWorkspaceBytes(l.m, l.n, l.k, MatrixLayout::rows, l.b, num_threads());
    workspace = allocate_aligned(bytes);
  }
  double flops() const { return 2.0 * static_cast<double>(line.m * line.n * line.k); }
  void run() const { cpu::Gemm(args, workspace.get(), bytes); }

  Line line;
  Tensor a, b, c;
  cpu::GemmArgs args;
  size_t bytes;
  std::shared_ptr<void> workspace;
};

void run(int rounds, const std::string& filter) {
  fmt::print("{}\n", machine());
  const int most = num_threads();
  fmt::print("ceiling (multiply-adds with operands from L1): {:.1f} GF/s on 1 thread",
             multiply_add_ceiling(1, 1) / 1e9);
  if (most > 1) fmt::print(", {:.1f} on {}", multiply_add_ceiling(most, 1) / 1e9, most);
  fmt::print("\nMedians of {} rounds; share: of the ceiling measured a moment before.\n\n", rounds);
  fmt::print("{:38} {:>8} {:>9} {:>6} {:>6} {:>7}  {}\n", "M x N x K", "threads", "GF/s", "share",
             "best", "aim", "plan");
  for (const Line& line : kLines) {
    const std::string name = fmt::format("{}x{}x{} {}", line.m, line.n, line.k, name_of(line.b));
    if (name.find(filter) == std::string::npos) continue;
    const auto product = std::make_shared<Product>(line);
    double one = 0;
    for (int threads : {1, most}) {
      if (threads == 1 && one > 0) continue;
      const Result r =
          interleaved({{name, product->flops(), [&] { product->run(); }}}, threads, rounds)[0];
      const auto plan =
          cpu::PlanGemm({line.m, line.n, line.k, MatrixLayout::rows, line.b}, threads);
      const double aim = threads == 1 ? line.aim : 0;
      fmt::print("{:38} {:8} {:9.1f} {:6.2f} {:6.2f} {:>7}  {}{}\n", name, threads, r.rate / 1e9,
                 r.share, r.best, aim > 0 ? fmt::format("{:.2f}", aim) : "", cpu::Describe(plan),
                 one > 0 ? fmt::format("; x{:.2f}", r.rate / one) : "");
      one = r.rate;
    }
  }
}

}  // namespace
}  // namespace graft::bench

int main(int argc, char** argv) {
  graft::bench::Command command;
  struct {
    int rounds = 21, threads = graft::num_threads();
    std::string filter;
  } o;
  command.add_option("--rounds", o.rounds);
  command.add_option("--threads", o.threads);
  command.add_option("filter", o.filter, "only lines whose name has this in it");
  return command.main(argc, argv, [&] {
    graft::set_num_threads(o.threads);
    graft::bench::run(o.rounds, o.filter);
  });
}
