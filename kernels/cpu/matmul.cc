// Matrix products on the CPU: shapes and batches are sorted out here, the arithmetic is Gemm's
// (kernels/cpu/gemm.h).
#include <algorithm>

#include "core/parallel.h"
#include "kernels/broadcast.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/gemm.h"

namespace graft::cpu {
namespace {

struct Sizes {
  int64_t m, n, k, batch;
  MatrixLayout a, b;
};

Sizes MatmulSizes(const KernelCall& c) {
  const auto& t = c.attr<MatmulAttrs>();
  const Shape &x = c.in(0).shape, &z = c.out().shape;
  return {z[-2],
          z[-1],
          x[t.tx ? -2 : -1],
          z.batch().elements(),
          t.tx ? MatrixLayout::cols : MatrixLayout::rows,
          t.ty ? MatrixLayout::cols : MatrixLayout::rows};
}

size_t MatmulWorkspace(const KernelCall& c) {
  const Sizes s = MatmulSizes(c);
  return GemmWorkspaceBytes(s.m, s.n, s.k, s.a, s.b, num_threads(), s.batch);
}

void Matmul(const KernelCall& c) {
  const Sizes s = MatmulSizes(c);
  GemmArgs args{.m = s.m, .n = s.n, .k = s.k};
  args.a = {c.in(0).as<float>(), s.a == MatrixLayout::cols ? s.m : s.k, s.a};
  args.b = {c.in(1).as<float>(), s.b == MatrixLayout::cols ? s.k : s.n, s.b};
  args.c = c.out().as<float>();
  args.ldc = s.n;
  const Shape bx = c.in(0).shape.batch(), by = c.in(1).shape.batch(), bz = c.out().shape.batch();
  const bool x_one = bx.elements() == 1, y_one = by.elements() == 1;
  if ((bx == bz || x_one) && (by == bz || y_one)) {
    BatchedGemm(args, {s.batch, x_one ? 0 : s.m * s.k, y_one ? 0 : s.k * s.n, s.m * s.n},
                c.workspace, c.workspace_bytes);
    return;
  }
  const BroadcastIndex ix(bx, bz), iy(by, bz);
  for (int64_t i = 0; i < s.batch; ++i) {
    args.a.data = c.in(0).as<float>() + ix(i) * s.m * s.k;
    args.b.data = c.in(1).as<float>() + iy(i) * s.k * s.n;
    args.c = c.out().as<float>() + i * s.m * s.n;
    Gemm(args, c.workspace, c.workspace_bytes);
  }
}

int64_t Rows(const Shape& x) { return x.product(0, x.rank() - 1); }

size_t LinearWorkspace(const KernelCall& c) {
  return GemmWorkspaceBytes(Rows(c.in(0).shape), c.in(1).shape[0], c.in(1).shape[1],
                            MatrixLayout::rows, MatrixLayout::cols, num_threads());
}

void Linear(const KernelCall& c) {
  const int64_t out = c.in(1).shape[0], in = c.in(1).shape[1];
  GemmArgs args{.m = Rows(c.in(0).shape), .n = out, .k = in};
  args.a = GemmOperand::rows(c.in(0).as<float>(), in);
  args.b = GemmOperand::cols(c.in(1).as<float>(), in);
  args.c = c.out().as<float>();
  args.ldc = out;
  if (c.has(2)) args.epilogue.bias = c.in(2).as<float>();
  Gemm(args, c.workspace, c.workspace_bytes);
}

size_t LinearDxWorkspace(const KernelCall& c) {
  return GemmWorkspaceBytes(c.in(0).shape[0], c.in(1).shape[1], c.in(1).shape[0],
                            MatrixLayout::rows, MatrixLayout::rows, num_threads());
}

void LinearDx(const KernelCall& c) {
  const int64_t out = c.in(1).shape[0], in = c.in(1).shape[1];
  GemmArgs args{.m = c.in(0).shape[0], .n = in, .k = out};
  args.a = GemmOperand::rows(c.in(0).as<float>(), out);
  args.b = GemmOperand::rows(c.in(1).as<float>(), in);
  args.c = c.out().as<float>();
  args.ldc = in;
  Gemm(args, c.workspace, c.workspace_bytes);
}

void Pack(const KernelCall& c) {
  const int64_t out = c.in(0).shape[0], in = c.in(0).shape[1];
  if (c.in(0).dtype == DType::bf16) {
    PackWeight(static_cast<const uint16_t*>(c.in(0).data), out, in,
               static_cast<uint16_t*>(c.out().data));
    return;
  }
  PackWeight(GemmOperand::cols(c.in(0).as<float>(), in), in, out, c.out().as<float>());
}

// W as the right operand of fused_linear.
GemmOperand WeightOperand(const FusedLinearAttrs& a, const View& w) {
  if (w.dtype == DType::bf16) {  // panels
    const auto* data = static_cast<const uint16_t*>(w.data);
    return a.backward ? GemmOperand::panels_transposed(data) : GemmOperand::panels(data);
  }
  const auto* data = static_cast<const float*>(w.data);
  if (w.shape.rank() == 1)
    return a.backward ? GemmOperand::panels_transposed(data) : GemmOperand::panels(data);
  return a.backward ? GemmOperand::rows(data, a.in) : GemmOperand::cols(data, a.in);
}

size_t FusedLinearWorkspace(const KernelCall& c) {
  const auto& a = c.attr<FusedLinearAttrs>();
  return GemmWorkspaceBytes(c.in(0).elements() / a.features(), a.columns(), a.features(),
                            MatrixLayout::rows, WeightOperand(a, c.in(1)).layout, num_threads());
}

Activation ActivationOf(std::string_view name) {
  if (name == "relu") return Activation::relu;
  if (name == "gelu_erf") return Activation::gelu_erf;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  if (name == "silu") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  return Activation::none;
}

void FusedLinear(const KernelCall& c) {
  const auto& a = c.attr<FusedLinearAttrs>();
  GemmArgs args{.m = c.in(0).elements() / a.features(), .n = a.columns(), .k = a.features()};
  args.a = GemmOperand::rows(c.in(0).as<float>(), a.features());
  args.b = WeightOperand(a, c.in(1));
  args.c = c.out().as<float>();
  args.ldc = a.columns();
  args.alpha = static_cast<float>(a.scale);
  if (c.has(2)) args.epilogue.bias = c.in(2).as<float>();
  if (c.has(3)) args.base = c.in(3).as<float>();
  args.epilogue.activation = ActivationOf(a.activation);
  Gemm(args, c.workspace, c.workspace_bytes);
}

constexpr KernelEntry kKernels[] = {{"matmul", Matmul, MatmulWorkspace},
                                    {"linear", Linear, LinearWorkspace},
                                    {"linear_dx", LinearDx, LinearDxWorkspace},
                                    {"pack", Pack},
                                    {"fused_linear", FusedLinear, FusedLinearWorkspace}};

}  // namespace

Family matmul_kernels() { return kKernels; }

}  // namespace graft::cpu
