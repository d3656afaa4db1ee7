// Elementwise ops in double: their definition.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/move.h"
#include "kernels/random.h"
#include "kernels/ref/families.h"

namespace graft::ref {
namespace {

template <double (*F)(double)>
void Unary(const KernelCall& c) {
  const double* x = c.in(0).as<double>();
  double* y = c.out().as<double>();
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) y[i] = F(x[i]);
}

template <double (*F)(double, double)>
void Binary(const KernelCall& c) {
  const double* x = c.in(0).as<double>();
  const double* y = c.in(1).as<double>();
  double* z = c.out().as<double>();
  const BroadcastIndex ix(c.in(0).shape, c.out().shape), iy(c.in(1).shape, c.out().shape);
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) z[i] = F(x[ix(i)], y[iy(i)]);
}

template <double (*F)(double, double)>
void Scalar(const KernelCall& c) {
  const double a = c.attr<ScalarAttrs>().value;
  const double* x = c.in(0).as<double>();
  double* y = c.out().as<double>();
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) y[i] = F(x[i], a);
}

double Neg(double x) { return -x; }
double Exp(double x) { return std::exp(x); }
double Log(double x) { return std::log(x); }
double Sqrt(double x) { return std::sqrt(x); }
double Rsqrt(double x) { return 1 / std::sqrt(x); }
double Abs(double x) { return std::fabs(x); }
double Sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
double Sin(double x) { return std::sin(x); }
double Cos(double x) { return std::cos(x); }
double Tanh(double x) { return std::tanh(x); }
double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Relu(double x) { return x < 0 ? 0 : x; }  // NaN stays NaN
double NormalCdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double GeluErf(double x) { return x * NormalCdf(x); }
constexpr double kTanhScale = 0.79788456080286535588, kTanhCubic = 0.044715;  // sqrt(2 / pi)
double GeluTanh(double x) {
  return 0.5 * x * (1 + std::tanh(kTanhScale * (x + kTanhCubic * x * x * x)));
}
double Silu(double x) { return x * Sigmoid(x); }
double Softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

double Add(double x, double y) { return x + y; }
double Sub(double x, double y) { return x - y; }
double Mul(double x, double y) { return x * y; }
double Div(double x, double y) { return x / y; }
double Pow(double x, double y) { return std::pow(x, y); }

double TanhBackward(double dy, double y) { return dy * (1 - y * y); }
double SigmoidBackward(double dy, double y) { return dy * y * (1 - y); }
double ReluBackward(double dy, double y) { return y > 0 ? dy : 0; }
double GeluErfBackward(double dy, double x) {
  const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
  return dy * (NormalCdf(x) + x * density);
}
double GeluTanhBackward(double dy, double x) {
  const double t = std::tanh(kTanhScale * (x + kTanhCubic * x * x * x));
  return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kTanhScale * (1 + 3 * kTanhCubic * x * x));
}
double SiluBackward(double dy, double x) {
  const double s = Sigmoid(x);
  return dy * (s + x * s * (1 - s));
}
double SoftplusBackward(double dy, double x) { return x > 20 ? dy : dy * Sigmoid(x); }

void Clamp(const KernelCall& c) {
  const auto& a = c.attr<ClampAttrs>();
  const double* x = c.in(0).as<double>();
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    const double least = x[i] < a.min ? a.min : x[i];  // NaN stays NaN
    c.out().as<double>()[i] = least > a.max ? a.max : least;
  }
}

void ClampBackward(const KernelCall& c) {
  const auto& a = c.attr<ClampAttrs>();
  const double *dy = c.in(0).as<double>(), *x = c.in(1).as<double>();
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    c.out().as<double>()[i] = x[i] >= a.min && x[i] <= a.max ? dy[i] : 0;
  }
}

void Where(const KernelCall& c) {
  const double *x = c.in(1).as<double>(), *y = c.in(2).as<double>();
  const Shape& shape = c.out().shape;
  const BroadcastIndex ic(c.in(0).shape, shape), ix(c.in(1).shape, shape), iy(c.in(2).shape, shape);
  for (int64_t i = 0, n = shape.elements(); i < n; ++i) {
    c.out().as<double>()[i] = LoadInt(c.in(0), ic(i)) != 0 ? x[ix(i)] : y[iy(i)];
  }
}

void MaskedFill(const KernelCall& c) {
  const double* x = c.in(0).as<double>();
  const BroadcastIndex im(c.in(1).shape, c.out().shape);
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    c.out().as<double>()[i] = LoadInt(c.in(1), im(i)) != 0 ? c.attr<ScalarAttrs>().value : x[i];
  }
}

// One bit per element, least significant bit first.
void PositiveBits(const KernelCall& c) {
  const double* x = c.in(0).as<double>();
  uint8_t* bits = c.out().as<uint8_t>();
  std::fill_n(bits, c.out().elements(), uint8_t{0});
  for (int64_t i = 0, n = c.in(0).elements(); i < n; ++i)
    bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | (x[i] > 0) << (i % 8));
}

void ReluBackwardBits(const KernelCall& c) {
  const double* dy = c.in(0).as<double>();
  const uint8_t* bits = c.in(1).as<uint8_t>();
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i)
    c.out().as<double>()[i] = (bits[i / 8] >> (i % 8) & 1) != 0 ? dy[i] : 0;
}

// The reference keeps every float as double: casts between floats change nothing here.
void Cast(const KernelCall& c) { move::Cast(c, 0, c.out().elements()); }

void Dropout(const KernelCall& c) {
  const auto& a = c.attr<DropoutAttrs>();
  const RandomStream random = stream_of(c.in(1), a.stream);
  const double* x = c.in(0).as<double>();
  for (int64_t i = 0, n = c.out().elements(); i < n; ++i) {
    const bool keep = random.uniform(static_cast<uint64_t>(i)) >= static_cast<float>(a.p);
    c.out().as<double>()[i] = keep ? x[i] / (1 - a.p) : 0;
  }
}

constexpr KernelEntry kKernels[] = {
    {"add", Binary<Add>},
    {"sub", Binary<Sub>},
    {"mul", Binary<Mul>},
    {"div", Binary<Div>},
    {"pow", Binary<Pow>},
    {"neg", Unary<Neg>},
    {"exp", Unary<Exp>},
    {"log", Unary<Log>},
    {"sqrt", Unary<Sqrt>},
    {"rsqrt", Unary<Rsqrt>},
    {"abs", Unary<Abs>},
    {"sign", Unary<Sign>},
    {"sin", Unary<Sin>},
    {"cos", Unary<Cos>},
    {"tanh", Unary<Tanh>},
    {"sigmoid", Unary<Sigmoid>},
    {"relu", Unary<Relu>},
    {"gelu_erf", Unary<GeluErf>},
    {"gelu_tanh", Unary<GeluTanh>},
    {"silu", Unary<Silu>},
    {"softplus", Unary<Softplus>},
    {"scale", Scalar<Mul>},
    {"add_scalar", Scalar<Add>},
    {"pow_scalar", Scalar<Pow>},
    {"clamp", Clamp},
    {"tanh_backward", Binary<TanhBackward>},
    {"sigmoid_backward", Binary<SigmoidBackward>},
    {"relu_backward", Binary<ReluBackward>},
    {"gelu_erf_backward", Binary<GeluErfBackward>},
    {"gelu_tanh_backward", Binary<GeluTanhBackward>},
    {"silu_backward", Binary<SiluBackward>},
    {"softplus_backward", Binary<SoftplusBackward>},
    {"clamp_backward", ClampBackward},
    {"positive_bits", PositiveBits},
    {"relu_backward_bits", ReluBackwardBits},
    {"where", Where},
    {"masked_fill", MaskedFill},
    {"cast", Cast},
    {"dropout", Dropout},
    {"full", move::Full},
};

}  // namespace

Family elementwise_kernels() { return kKernels; }

}  // namespace graft::ref
