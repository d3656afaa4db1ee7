// Elementwise ops with Highway. Operands of one shape, or a scalar, a row or a column against a
// matrix, take vector paths; other broadcasts are walked row by row.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include <cmath>

#include "core/parallel.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/part-inl.h"
#include "kernels/move.h"

#ifndef GRAFT_KERNELS_CPU_ELEMENTWISE_ONCE
#define GRAFT_KERNELS_CPU_ELEMENTWISE_ONCE
namespace graft::cpu {
// A contiguous run of an operand: one value for all (stride 0) or one per output.
struct Run {
  const float* data;
  bool constant;
};
}  // namespace graft::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// z[i] = op(x[i], y[i]) for n outputs.
template <class Op>
void Map2(Run x, Run y, float* z, size_t n, Op op) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  const auto load = [&](Run r, size_t at) HWY_ATTR {
    return r.constant ? hn::Set(d, *r.data) : hn::LoadU(d, r.data + at);
  };
  for (; i + lanes <= n; i += lanes) hn::StoreU(op(d, load(x, i), load(y, i)), d, z + i);
  if (i < n) {
    const auto mask = hn::FirstN(d, n - i);
    const auto part = [&](Run r) HWY_ATTR {
      return r.constant ? hn::Set(d, *r.data) : LoadMasked(d, mask, r.data + i);
    };
    StoreMasked(op(d, part(x), part(y)), mask, d, z + i);
  }
}

#define GRAFT_BINARY(Name, ...)                            \
  void Name(Run x, Run y, float* z, size_t n) {            \
    Map2(x, y, z, n, [](auto d, auto a, auto b) HWY_ATTR { \
      (void)d;                                             \
      return __VA_ARGS__;                                  \
    });                                                    \
  }
GRAFT_BINARY(AddRun, hn::Add(a, b))
GRAFT_BINARY(SubRun, hn::Sub(a, b))
GRAFT_BINARY(MulRun, hn::Mul(a, b))
GRAFT_BINARY(DivRun, hn::Div(a, b))
GRAFT_BINARY(TanhBackwardRun, hn::Mul(a, hn::NegMulAdd(b, b, hn::Set(d, 1.0f))))
GRAFT_BINARY(SigmoidBackwardRun, hn::Mul(a, hn::Mul(b, hn::Sub(hn::Set(d, 1.0f), b))))
GRAFT_BINARY(ReluBackwardRun, hn::IfThenElseZero(hn::Gt(b, hn::Zero(d)), a))
GRAFT_BINARY(GeluErfBackwardRun, hn::Mul(a, GeluErfSlope(d, b)))
GRAFT_BINARY(GeluTanhBackwardRun, hn::Mul(a, GeluTanhSlope(d, b)))
GRAFT_BINARY(SiluBackwardRun, hn::Mul(a, SiluSlope(d, b)))
GRAFT_BINARY(SoftplusBackwardRun,
             hn::IfThenElse(hn::Gt(b, hn::Set(d, 20.0f)), a, hn::Mul(a, SigmoidV(d, b))))
#undef GRAFT_BINARY

// z[i] = op(x[i]); `a` and `c` are the constants of the op.
template <class Op>
void Map1(const float* x, float* z, size_t n, Op op) {
  Map2({x, false}, {x, false}, z, n, [op](auto d, auto v, auto) HWY_ATTR { return op(d, v); });
}

#define GRAFT_UNARY(Name, ...)                                      \
  void Name(const float* x, float* z, size_t n, float a, float c) { \
    Map1(x, z, n, [a, c](auto d, auto v) HWY_ATTR {                 \
      (void)d, (void)a, (void)c;                                    \
      return __VA_ARGS__;                                           \
    });                                                             \
  }
GRAFT_UNARY(NegRun, hn::Neg(v))
GRAFT_UNARY(ExpRun, ExpV(d, v))
GRAFT_UNARY(LogRun, LogV(d, v))
GRAFT_UNARY(SqrtRun, hn::Sqrt(v))
GRAFT_UNARY(RsqrtRun, hn::Div(hn::Set(d, 1.0f), hn::Sqrt(v)))
GRAFT_UNARY(AbsRun, hn::Abs(v))
GRAFT_UNARY(SignRun,
            hn::IfThenElse(hn::Gt(hn::Abs(v), hn::Zero(d)), hn::CopySign(hn::Set(d, 1.0f), v), v))
GRAFT_UNARY(TanhRun, TanhV(d, v))
GRAFT_UNARY(SigmoidRun, SigmoidV(d, v))
GRAFT_UNARY(ReluRun, ReluV(d, v))
GRAFT_UNARY(GeluErfRun, GeluErfV(d, v))
GRAFT_UNARY(GeluTanhRun, GeluTanhV(d, v))
GRAFT_UNARY(SiluRun, SiluV(d, v))
GRAFT_UNARY(ScaleRun, hn::Mul(v, hn::Set(d, a)))
GRAFT_UNARY(AddScalarRun, hn::Add(v, hn::Set(d, a)))
GRAFT_UNARY(ClampRun, Clamped(d, v, a, c))
GRAFT_UNARY(SquareRun, hn::Mul(v, v))
GRAFT_UNARY(CubeRun, hn::Mul(v, hn::Mul(v, v)))
GRAFT_UNARY(ReciprocalRun, hn::Div(hn::Set(d, 1.0f), v))
#undef GRAFT_UNARY

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft::cpu {

HWY_EXPORT(ScaleRun);
HWY_EXPORT(AddScalarRun);
HWY_EXPORT(ClampRun);
HWY_EXPORT(SquareRun);
HWY_EXPORT(CubeRun);
HWY_EXPORT(ReciprocalRun);

namespace {

// Elements below which a second thread costs more than it saves.
constexpr int64_t kGrain = 16 * 1024;

using BinaryRun = void (*)(Run, Run, float*, size_t);
using UnaryRun = void (*)(const float*, float*, size_t, float, float);

void RunUnary(const KernelCall& c, UnaryRun run, float a = 0, float b = 0) {
  const float* x = c.in(0).as<float>();
  float* y = c.out().as<float>();
  parallel_for(c.out().elements(), kGrain, [&](int64_t begin, int64_t end) {
    run(x + begin, y + begin, static_cast<size_t>(end - begin), a, b);
  });
}

// The innermost axis, or as many inner axes as both operands walk without a break, is one run.
void RunBinary(const KernelCall& c, BinaryRun run) {
  const Shape &sx = c.in(0).shape, &sy = c.in(1).shape, &sz = c.out().shape;
  const float *x = c.in(0).as<float>(), *y = c.in(1).as<float>();
  float* z = c.out().as<float>();
  const bool x_all = sx.elements() == 1, y_all = sy.elements() == 1;
  if ((sx == sz || x_all) && (sy == sz || y_all)) {
    parallel_for(sz.elements(), kGrain, [&](int64_t begin, int64_t end) {
      run({x_all ? x : x + begin, x_all}, {y_all ? y : y + begin, y_all}, z + begin,
          static_cast<size_t>(end - begin));
    });
    return;
  }
  // How many inner axes form one run: all where each operand is either whole or constant over them.
  int inner = 0;
  int64_t length = 1;
  auto whole = [&](const Shape& s, int axes) {
    for (int i = 1; i <= axes; ++i) {
      if (i > s.rank() || s[-i] != sz[-i]) return false;
    }
    return true;
  };
  auto constant = [&](const Shape& s, int axes) {
    for (int i = 1; i <= axes; ++i) {
      if (i <= s.rank() && s[-i] != 1) return false;
    }
    return true;
  };
  while (inner < sz.rank() && (whole(sx, inner + 1) || constant(sx, inner + 1)) &&
         (whole(sy, inner + 1) || constant(sy, inner + 1))) {
    length *= sz[-++inner];
  }
  const bool x_constant = !whole(sx, inner), y_constant = !whole(sy, inner);
  const BroadcastIndex ix(sx, sz), iy(sy, sz);
  const int64_t rows = length == 0 ? 0 : sz.elements() / length;
  parallel_for(rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, length)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) {
                   run({x + ix(r * length), x_constant}, {y + iy(r * length), y_constant},
                       z + r * length, static_cast<size_t>(length));
                 }
               });
}

#define GRAFT_KERNEL(Name) \
  HWY_EXPORT(Name##Run);   \
  void Name(const KernelCall& c) { RunUnary(c, GRAFT_DISPATCH(Name##Run)); }
GRAFT_KERNEL(Neg)
GRAFT_KERNEL(Exp)
GRAFT_KERNEL(Log)
GRAFT_KERNEL(Sqrt)
GRAFT_KERNEL(Rsqrt)
GRAFT_KERNEL(Abs)
GRAFT_KERNEL(Sign)
GRAFT_KERNEL(Tanh)
GRAFT_KERNEL(Sigmoid)
GRAFT_KERNEL(Relu)
GRAFT_KERNEL(GeluErf)
GRAFT_KERNEL(GeluTanh)
GRAFT_KERNEL(Silu)
#undef GRAFT_KERNEL
#define GRAFT_KERNEL(Name) \
  HWY_EXPORT(Name##Run);   \
  void Name(const KernelCall& c) { RunBinary(c, GRAFT_DISPATCH(Name##Run)); }
GRAFT_KERNEL(Add)
GRAFT_KERNEL(Sub)
GRAFT_KERNEL(Mul)
GRAFT_KERNEL(Div)
GRAFT_KERNEL(TanhBackward)
GRAFT_KERNEL(SigmoidBackward)
GRAFT_KERNEL(ReluBackward)
GRAFT_KERNEL(GeluErfBackward)
GRAFT_KERNEL(GeluTanhBackward)
GRAFT_KERNEL(SiluBackward)
GRAFT_KERNEL(SoftplusBackward)
#undef GRAFT_KERNEL

void Scale(const KernelCall& c) {
  RunUnary(c, GRAFT_DISPATCH(ScaleRun), static_cast<float>(c.attr<ScalarAttrs>().value));
}
void AddScalar(const KernelCall& c) {
  RunUnary(c, GRAFT_DISPATCH(AddScalarRun), static_cast<float>(c.attr<ScalarAttrs>().value));
}
void Clamp(const KernelCall& c) {
  const auto& a = c.attr<ClampAttrs>();
  RunUnary(c, GRAFT_DISPATCH(ClampRun), static_cast<float>(a.min), static_cast<float>(a.max));
}

// Functions that no hot loop of a transformer needs: scalar, on all threads.
template <typename F>
void MapScalar(const KernelCall& c, F f) {
  const float* x = c.in(0).as<float>();
  float* y = c.out().as<float>();
  parallel_for(c.out().elements(), kGrain / 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = f(x[i]);
  });
}
void Sin(const KernelCall& c) {
  MapScalar(c, [](float x) { return std::sin(x); });
}
void Cos(const KernelCall& c) {
  MapScalar(c, [](float x) { return std::cos(x); });
}
void Softplus(const KernelCall& c) {
  MapScalar(c, [](float x) { return x > 20 ? x : std::log1p(std::exp(x)); });
}
void PowScalar(const KernelCall& c) {
  const double e = c.attr<ScalarAttrs>().value;
  if (e == 2) return RunUnary(c, GRAFT_DISPATCH(SquareRun));
  if (e == 3) return RunUnary(c, GRAFT_DISPATCH(CubeRun));
  if (e == -1) return RunUnary(c, GRAFT_DISPATCH(ReciprocalRun));
  if (e == 0.5) return Sqrt(c);
  MapScalar(c, [e = static_cast<float>(e)](float x) { return std::pow(x, e); });
}

template <typename F>
void MapBroadcast(const KernelCall& c, F f) {
  const Shape& s = c.out().shape;
  parallel_for(s.elements(), kGrain / 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) c.out().as<float>()[i] = f(i);
  });
}
void Pow(const KernelCall& c) {
  const BroadcastIndex ix(c.in(0).shape, c.out().shape), iy(c.in(1).shape, c.out().shape);
  const float *x = c.in(0).as<float>(), *y = c.in(1).as<float>();
  MapBroadcast(c, [&](int64_t i) { return std::pow(x[ix(i)], y[iy(i)]); });
}
void Where(const KernelCall& c) {
  const Shape& s = c.out().shape;
  const BroadcastIndex ic(c.in(0).shape, s), ix(c.in(1).shape, s), iy(c.in(2).shape, s);
  const float *x = c.in(1).as<float>(), *y = c.in(2).as<float>();
  MapBroadcast(c, [&](int64_t i) { return LoadInt(c.in(0), ic(i)) != 0 ? x[ix(i)] : y[iy(i)]; });
}
void MaskedFill(const KernelCall& c) {
  const BroadcastIndex im(c.in(1).shape, c.out().shape);
  const float* x = c.in(0).as<float>();
  const float v = static_cast<float>(c.attr<ScalarAttrs>().value);
  MapBroadcast(c, [&](int64_t i) { return LoadInt(c.in(1), im(i)) != 0 ? v : x[i]; });
}
void ClampBackward(const KernelCall& c) {
  const auto& a = c.attr<ClampAttrs>();
  const float low = static_cast<float>(a.min), high = static_cast<float>(a.max);
  const float *dy = c.in(0).as<float>(), *x = c.in(1).as<float>();
  MapBroadcast(c, [&](int64_t i) { return x[i] >= low && x[i] <= high ? dy[i] : 0.0f; });
}

void Cast(const KernelCall& c) {
  parallel_for(c.out().elements(), kGrain,
               [&](int64_t begin, int64_t end) { move::Cast(c, begin, end); });
}

constexpr KernelEntry kKernels[] = {
    {"add", Add},
    {"sub", Sub},
    {"mul", Mul},
    {"div", Div},
    {"pow", Pow},
    {"neg", Neg},
    {"exp", Exp},
    {"log", Log},
    {"sqrt", Sqrt},
    {"rsqrt", Rsqrt},
    {"abs", Abs},
    {"sign", Sign},
    {"sin", Sin},
    {"cos", Cos},
    {"tanh", Tanh},
    {"sigmoid", Sigmoid},
    {"relu", Relu},
    {"gelu_erf", GeluErf},
    {"gelu_tanh", GeluTanh},
    {"silu", Silu},
    {"softplus", Softplus},
    {"scale", Scale},
    {"add_scalar", AddScalar},
    {"pow_scalar", PowScalar},
    {"clamp", Clamp},
    {"tanh_backward", TanhBackward},
    {"sigmoid_backward", SigmoidBackward},
    {"relu_backward", ReluBackward},
    {"gelu_erf_backward", GeluErfBackward},
    {"gelu_tanh_backward", GeluTanhBackward},
    {"silu_backward", SiluBackward},
    {"softplus_backward", SoftplusBackward},
    {"clamp_backward", ClampBackward},
    {"where", Where},
    {"masked_fill", MaskedFill},
    {"cast", Cast},
    {"full", move::Full},
};

}  // namespace

Family elementwise_kernels() { return kKernels; }

}  // namespace graft::cpu
#endif  // HWY_ONCE
