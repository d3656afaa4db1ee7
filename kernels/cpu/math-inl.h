// Vector functions shared by kernel files. Included once per target, after hwy/highway.h.
#if defined(GRAFT_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_KERNELS_CPU_MATH_INL_H_
#undef GRAFT_KERNELS_CPU_MATH_INL_H_
#else
#define GRAFT_KERNELS_CPU_MATH_INL_H_
#endif

#include <cmath>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace graft::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// exp over the whole range: 0 below -104 and inf above 88.72, as std::exp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpV(D d, V x) {
  const V y = hn::Exp(d, hn::Max(hn::Min(x, hn::Set(d, 88.72283f)), hn::Set(d, -104.0f)));
  const V bounded = hn::IfThenElse(hn::Gt(x, hn::Set(d, 88.72283f)), hn::Set(d, INFINITY), y);
  return hn::IfThenElse(hn::Eq(x, x), bounded, x);
}

// exp for arguments whose results matter only as part of a bounded function: clamped so that no
// denormal is ever made.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpBounded(D d, V x) {
  return hn::Exp(d, hn::Max(hn::Min(x, hn::Set(d, 87.0f)), hn::Set(d, -87.0f)));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V SigmoidV(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, ExpBounded(d, hn::Neg(x))));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V TanhV(D d, V x) {
  return hn::Tanh(d, x);
}

// erfc(|x|) e^{x^2} is smooth: Abramowitz and Stegun 7.1.26 refined to a degree-9 fit in t = 1 / (1
// + p|x|) (Numerical Recipes erfcc, 1.2e-7 relative everywhere).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ErfcAbs(D d, V abs_x) {
  const V t = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(hn::Set(d, 0.5f), abs_x, hn::Set(d, 1.0f)));
  V p = hn::Set(d, 0.17087277f);
  p = hn::MulAdd(p, t, hn::Set(d, -0.82215223f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.48851587f));
  p = hn::MulAdd(p, t, hn::Set(d, -1.13520398f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.27886807f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.18628806f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.09678418f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.37409196f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.00002368f));
  p = hn::MulAdd(p, t, hn::Set(d, -1.26551223f));
  return hn::Mul(t, ExpBounded(d, hn::NegMulAdd(abs_x, abs_x, p)));
}

// Normal distribution function Phi(x) = erfc(-x / sqrt 2) / 2.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V NormalCdf(D d, V x) {
  const V upper =
      hn::Mul(hn::Set(d, 0.5f), ErfcAbs(d, hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678118f))));
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(hn::Set(d, 1.0f), upper), upper);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluErfV(D d, V x) {
  return hn::Mul(x, NormalCdf(d, x));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluErfSlope(D d, V x) {
  const V density =
      hn::Mul(hn::Set(d, 0.39894228040f), ExpBounded(d, hn::Mul(hn::Set(d, -0.5f), hn::Mul(x, x))));
  return hn::MulAdd(x, density, NormalCdf(d, x));
}

// x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the same function as 0.5 x (1 + tanh u) with
// one exp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluTanhGate(D d, V x) {
  const V cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.0713548163f), hn::Set(d, 1.59576912161f));
  return SigmoidV(d, hn::Mul(x, cubic));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluTanhV(D d, V x) {
  return hn::Mul(x, GeluTanhGate(d, x));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluTanhSlope(D d, V x) {
  const V s = GeluTanhGate(d, x);
  const V du = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.2140644489f), hn::Set(d, 1.59576912161f));
  return hn::MulAdd(hn::Mul(x, du), hn::Mul(s, hn::Sub(hn::Set(d, 1.0f), s)), s);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V SiluSlope(D d, V x) {
  const V s = SigmoidV(d, x);
  return hn::MulAdd(hn::Mul(x, s), hn::Sub(hn::Set(d, 1.0f), s), s);
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
