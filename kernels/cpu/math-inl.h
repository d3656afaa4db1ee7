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

// Comparisons rather than Min and Max, whose result for a NaN differs between targets: a NaN stays
// a NaN, so that a diverged run shows.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V AtLeast(D d, V x, float low) {
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, low)), hn::Set(d, low), x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Clamped(D d, V x, float low, float high) {
  const V least = AtLeast(d, x, low);
  return hn::IfThenElse(hn::Gt(least, hn::Set(d, high)), hn::Set(d, high), least);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ReluV(D d, V x) {
  return AtLeast(d, x, 0.0f);
}

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

// log over the whole range, as std::log; Highway's is for positive finite numbers.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LogV(D d, V x) {
  const V outside = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Set(d, -INFINITY), hn::Set(d, NAN));
  const V y = hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Log(d, x), outside);
  return hn::IfThenElse(hn::Eq(x, hn::Set(d, INFINITY)), x, y);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V SigmoidV(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V y = hn::Div(one, hn::Add(one, ExpBounded(d, hn::Neg(x))));
  return hn::IfThenElse(hn::Eq(x, x), y, x);
}

// Far from zero the gates below are 0 or 1, but 0 is e^-87 here: x is bounded before it multiplies
// the gate, or -1e38 would give -1.6 instead of 0. These bounds are beyond where float sees the
// difference.
constexpr float kSiluFar = 88.0f, kGeluFar = 15.0f;

template <class D, class V = hn::Vec<D>>
HWY_INLINE V SiluV(D d, V x) {
  return hn::Mul(AtLeast(d, x, -kSiluFar), SigmoidV(d, x));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V TanhV(D d, V x) {
  return hn::Tanh(d, x);
}

// exp(x) for x <= 0, as scores less their maximum: 0 below -104, NaN stays.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpNonPositive(D d, V x) {
  return hn::IfThenElse(hn::Eq(x, x), hn::Exp(d, x), x);
}

// exp(-x^2 / 2), not below exp(-80): what depends on it is then no denormal.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V NormalBell(D d, V x) {
  return hn::Exp(d, hn::Max(hn::Mul(hn::Set(d, -0.5f), hn::Mul(x, x)), hn::Set(d, -80.0f)));
}

// Normal distribution function, `bell` being exp(-x^2 / 2): Phi(-|x|) = bell erfcx(|x| / sqrt 2)
// / 2. The scaled complementary error function is smooth in t = 1 / (1 + |x| / sqrt 8): t times a
// minimax polynomial of degree 8, 4e-8 relative for |x| < 13.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V NormalCdf(D d, V x, V bell) {
  const V one = hn::Set(d, 1.0f);
  const V t = hn::Div(one, hn::MulAdd(hn::Set(d, 0.35355339f), hn::Abs(x), one));
  V p = hn::Set(d, -0.0588470995f);
  p = hn::MulAdd(p, t, hn::Set(d, 0.283487648f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.484936982f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.275463134f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.0248197038f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.201916769f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.24330017f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.282348007f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.282087982f));
  const V upper = hn::Mul(hn::Mul(hn::Set(d, 0.5f), bell), hn::Mul(p, t));
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(one, upper), upper);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluErfV(D d, V x) {
  return hn::Mul(x, NormalCdf(d, x, NormalBell(d, x)));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluErfSlope(D d, V any_x) {
  const V x = Clamped(d, any_x, -kGeluFar, kGeluFar);
  const V bell = NormalBell(d, x);
  const V density = hn::Mul(hn::Set(d, 0.39894228040f), bell);
  return hn::MulAdd(x, density, NormalCdf(d, x, bell));
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
  return hn::Mul(AtLeast(d, x, -kGeluFar), GeluTanhGate(d, x));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluTanhSlope(D d, V any_x) {
  const V x = Clamped(d, any_x, -kGeluFar, kGeluFar);
  const V s = GeluTanhGate(d, x);
  const V du = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.2140644489f), hn::Set(d, 1.59576912161f));
  return hn::MulAdd(hn::Mul(x, du), hn::Mul(s, hn::Sub(hn::Set(d, 1.0f), s)), s);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V SiluSlope(D d, V any_x) {
  const V x = Clamped(d, any_x, -kSiluFar, kSiluFar);
  const V s = SigmoidV(d, x);
  return hn::MulAdd(hn::Mul(x, s), hn::Sub(hn::Set(d, 1.0f), s), s);
}

}  // namespace graft::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
